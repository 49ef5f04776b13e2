"""Docker image references, taken apart as Docker does it: registry, repository, tag and digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from callstats.errors import ImageError

_HUBS = ("docker.io", "index.docker.io")
_OFFICIAL = "library/"
_LONGEST_PATH = 255
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}

# All are used with fullmatch, since `$` would let a final line feed pass, and no class may match beyond ASCII.
_NAME = r"[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*"
_REGISTRY = re.compile(rf"(?:{_NAME}(?:\.{_NAME})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class ImageRef:
    """A parsed image name.

    Attributes
    ----------
    registry : str
        Host, with its port if it had one; ``""`` for Docker Hub, named or not.
    repository : str
        Path within the registry; on Docker Hub a bare name stands under ``library/``.
    tag : str or None
        ``"latest"`` when the name had neither tag nor digest, None when it had a digest alone.
    digest : str or None
        Algorithm and hex digits, such as ``sha256:…``.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def triple(self) -> tuple[str, str, str]:
        """Registry, repository, and what to pull: the digest if there is one, else the tag."""
        return self.registry, self.repository, self.digest or self.tag or "latest"


def parse_image(name: str) -> ImageRef:
    """Take a Docker image name apart, by the rules of Docker's ``distribution/reference``.

    The first of several parts is a registry when it is ``localhost`` or holds a point, a colon or an upper-case letter; else
    the whole path is one of Docker Hub.

    Parameters
    ----------
    name : str
        ``[registry/]path[:tag][@digest]``. The registry is a host name, an IPv4 address or an IPv6 address in brackets, and may
        have a port; the path has at most 255 characters, ``library/`` included; the tag at most 128; the digest is sha256,
        sha384 or sha512 with all its hex digits in lower case.

    Returns
    -------
    ImageRef

    Raises
    ------
    ImageError
        When the name breaks one of these rules, is 64 hex digits alone (an image's id), or is no str.

    Examples
    --------
    >>> parse_image("mongo").triple
    ('', 'library/mongo', 'latest')
    >>> parse_image("quay.io:443/team/app:v2")
    ImageRef(registry='quay.io:443', repository='team/app', tag='v2', digest=None)
    """
    if not isinstance(name, str):
        raise ImageError(f"an image name must be a str, got {type(name).__name__}")
    if not name:
        raise ImageError("an image name must not be empty")
    if len(name) == _HEX_DIGITS["sha256"] and _HEX.fullmatch(name):
        raise ImageError(f"an image name must not be 64 hex digits alone, which is an image's id, got {_shown(name)}")
    rest, at, digest = name.partition("@")
    registry, rest = _split_registry(rest)
    path, colon, tag = rest.partition(":")
    _check(name, registry, path, tag if colon else None, digest if at else None)
    if registry in _HUBS:
        registry = ""
    if not registry and "/" not in path:
        path = _OFFICIAL + path
    if len(path) > _LONGEST_PATH:
        raise ImageError(f"the repository must have at most {_LONGEST_PATH} characters, got {len(path)} in {_shown(name)}")
    return ImageRef(registry, path, tag or (None if at else "latest"), digest or None)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return first, rest
    return "", name


def _check(name: str, registry: str, path: str, tag: str | None, digest: str | None) -> None:
    where = f"in {_shown(name)}"
    if registry and not _REGISTRY.fullmatch(registry):
        raise ImageError(
            f"expected a registry such as example.com, example.com:5000 or [2001:db8::2]:5000, got {_shown(registry)} {where}"
        )
    if path != path.lower():
        raise ImageError(f"the repository must be in lower case, got {_shown(path)} {where}")
    if not _REPOSITORY.fullmatch(path):
        raise ImageError(
            "expected a repository of a-z and 0-9 in parts divided by '/', with single '.', '_', '__' or dashes inside a part, "
            f"got {_shown(path)} {where}"
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise ImageError(
            "expected a tag of 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-', "
            f"got {_shown(tag)} {where}"
        )
    if digest is not None:
        algorithm, _, digits = digest.partition(":")
        if len(digits) != _HEX_DIGITS.get(algorithm) or not _HEX.fullmatch(digits):
            allowed = ", ".join(f"{known} and {count}" for known, count in _HEX_DIGITS.items())
            raise ImageError(f"expected a digest of {allowed} lower-case hex digits, got {_shown(digest)} {where}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
