"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import click
from sphinx.application import Sphinx

from callstats import __version__

project = "callstats"
author = "The callstats authors"
version = release = __version__
html_title = f"callstats {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_heading_anchors = 3  # a link to a heading that isn't there is an error, like all that Sphinx warns of

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what each parameter is
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # else the n of (n,) int would be a link
suppress_warnings = ["ref.python"]  # and so it is in the types of properties
napoleon_use_ivar = True

default_role = "code"  # in a docstring `name` is a name
smartquotes = False  # they make one dash of the two of an option
highlight_options = {"python": {"stripnl": True}}  # the blank line that ends an example is for doctest
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["callstats.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"footer_icons": []}


def no_addresses(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """METRIC@max in the command's help is no one's address."""
    lines[:] = [line.replace("@", r"\@") for line in lines]


def setup(app: Sphinx) -> None:
    """Set Sphinx up."""
    app.connect("sphinx-click-process-options", no_addresses)
