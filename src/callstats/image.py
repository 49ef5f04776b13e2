"""Docker image names, split as Docker does: registry, repository, tag and digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from callstats.errors import ImageError, shorten_repr

_HUBS = ("docker.io", "index.docker.io")
_OFFICIAL = "library/"
_MAX_PATH = 255
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}

# Use fullmatch: `$` allows a final line feed. No class may match beyond ASCII.
_NAME = r"[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*"
_REGISTRY = re.compile(rf"(?:{_NAME}(?:\.{_NAME})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX_TEXT = re.compile(r"[0-9a-f]+")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageRef:
    """A parsed image name.

    Attributes
    ----------
    registry : str
        Host, with the port if the name has one; ``""`` for Docker Hub.
    repository : str
        Path within the registry. On Docker Hub, a bare name gets ``library/`` before it.
    tag : str or None
        ``"latest"`` if the name has neither tag nor digest; None if it has only a digest.
    digest : str or None
        Algorithm and hex digits, such as ``sha256:…``.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def triple(self) -> tuple[str, str, str]:
        """Return registry, repository, and the digest, or else the tag."""
        return self.registry, self.repository, self.digest or self.tag or "latest"


def parse_image(name: str) -> ImageRef:
    """Split a Docker image name, by the rules of Docker's ``distribution/reference``.

    The first of several parts is a registry if it is ``localhost``, or has a point, a colon or an upper-case letter. Otherwise
    the registry is Docker Hub.

    Parameters
    ----------
    name : str
        ``[registry/]path[:tag][@digest]``. The registry is a host name, an IPv4 address or an IPv6 address in brackets, and may
        have a port. The path has at most 255 characters, with ``library/``; the tag at most 128. The digest is sha256, sha384 or
        sha512 with all hex digits in lower case.

    Returns
    -------
    ImageRef

    Raises
    ------
    ImageError
        The name breaks one of these rules, is an image id (64 hex digits, also after ``sha256:``), or is no str.

    Examples
    --------
    >>> parse_image("mongo").triple
    ('', 'library/mongo', 'latest')
    >>> parse_image("quay.io:443/team/app:v2")
    ImageRef(registry='quay.io:443', repository='team/app', tag='v2', digest=None)
    """
    if not isinstance(name, str):
        raise ImageError(f"name must be a str, got {shorten_repr(name)}")
    if not name:
        raise ImageError("name must not be empty, got ''")
    if _IMAGE_ID.fullmatch(name):
        raise ImageError(f"name must not be an image id (64 hex digits), got {name!r}")
    rest, at, digest = name.partition("@")
    registry, rest = _split_registry(rest)
    path, colon, tag = rest.partition(":")
    _validate(name, registry, path, tag if colon else None, digest if at else None)
    if registry in _HUBS:
        registry = ""
    if not registry and "/" not in path:
        path = _OFFICIAL + path
    if len(path) > _MAX_PATH:
        raise _malformed(name, f"a repository of at most {_MAX_PATH} characters", len(path))
    return ImageRef(registry, path, tag or (None if at else "latest"), digest or None)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return first, rest
    return "", name


def _validate(name: str, registry: str, path: str, tag: str | None, digest: str | None) -> None:
    if registry and not _REGISTRY.fullmatch(registry):
        raise _malformed(name, "a registry such as example.com, example.com:5000 or [2001:db8::2]:5000", registry)
    if path != path.lower():
        raise _malformed(name, "a repository in lower case", path)
    if not _REPOSITORY.fullmatch(path):
        raise _malformed(
            name, "a repository of a-z and 0-9 in parts divided by '/', with single '.', '_', '__' or dashes inside a part", path
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise _malformed(name, "a tag of 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'", tag)
    if digest is not None:
        algorithm, _, digits = digest.partition(":")
        if len(digits) != _HEX_DIGITS.get(algorithm) or not _HEX_TEXT.fullmatch(digits):
            allowed = ", ".join(f"{known} and {count}" for known, count in _HEX_DIGITS.items())
            raise _malformed(name, f"a digest of {allowed} lower-case hex digits", digest)


def _malformed(name: str, expected: str, value: object) -> ImageError:
    return ImageError(f"image {shorten_repr(name)}: expected {expected}, got {shorten_repr(value)}")
