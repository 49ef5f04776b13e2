"""Docker image names: registry, repository, tag and digest."""

from __future__ import annotations

import dataclasses
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats.errors import CallstatsError, ImageError
from callstats.image import ImageRef, parse_image
from support import vectors

HEX = "066978f9d271cfde1586ee5c6a3904a683a228252d6bc831e9c64a6fb823bc10"
SHA256 = f"sha256:{HEX}"
SHA384 = f"sha384:{HEX}{HEX[:32]}"
SHA512 = f"sha512:{HEX}{HEX}"
VECTORS = vectors.load("image")

ACCEPTED = [
    # The common forms: a port, a tag beside a digest, a host alone
    (f"reg:5000/a@{SHA256}", "reg:5000", "a", None, SHA256),
    (f"golang:1.4.2@{SHA256}", "", "library/golang", "1.4.2", SHA256),
    ("localhost/foo", "localhost", "foo", "latest", None),
    ("host:5000", "", "library/host", "5000", None),
    ("docker.io/mongo", "", "library/mongo", "latest", None),
    # Docker Hub, by either of its names and none
    ("index.docker.io/mongo", "", "library/mongo", "latest", None),
    ("index.docker.io/team/app:1", "", "team/app", "1", None),
    ("docker.io/library/mongo", "", "library/mongo", "latest", None),
    ("docker.io/a/b/c", "", "a/b/c", "latest", None),
    ("docker.io/docker.io/mongo", "", "docker.io/mongo", "latest", None),
    ("docker.io", "", "library/docker.io", "latest", None),
    ("localhost", "", "library/localhost", "latest", None),
    ("docker.io:443/mongo", "docker.io:443", "mongo", "latest", None),
    ("registry-1.docker.io/mongo", "registry-1.docker.io", "mongo", "latest", None),
    ("Docker.io/mongo", "Docker.io", "mongo", "latest", None),
    ("library/mongo", "", "library/mongo", "latest", None),
    # What is a registry
    ("localhost:5000/a/b", "localhost:5000", "a/b", "latest", None),
    ("localhosts/app", "", "localhosts/app", "latest", None),
    ("LOCALHOST/app", "LOCALHOST", "app", "latest", None),
    ("myHost/team/app:V1", "myHost", "team/app", "V1", None),
    ("192.168.0.1/app", "192.168.0.1", "app", "latest", None),
    ("a-b.example--x.com:80/app", "a-b.example--x.com:80", "app", "latest", None),
    ("[::1]/app", "[::1]", "app", "latest", None),
    (f"[2001:DB8::2]:5000/app:1@{SHA256}", "[2001:DB8::2]:5000", "app", "1", SHA256),
    ("registry/app", "", "registry/app", "latest", None),
    # Paths
    ("a__b/c_d/e.f/g---h", "", "a__b/c_d/e.f/g---h", "latest", None),
    ("0/1", "", "0/1", "latest", None),
    (f"library/{HEX}", "", f"library/{HEX}", "latest", None),
    (f"{HEX}:1", "", f"library/{HEX}", "1", None),
    (HEX[:-1], "", f"library/{HEX[:-1]}", "latest", None),
    (f"{HEX}0", "", f"library/{HEX}0", "latest", None),
    # Tags
    ("app:_", "", "library/app", "_", None),
    ("app:A.b-c_9", "", "library/app", "A.b-c_9", None),
    (f"app:{'t' * 128}", "", "library/app", "t" * 128, None),
    (f"app:{HEX}", "", "library/app", HEX, None),
    # Digests
    (f"app@{SHA384}", "", "library/app", None, SHA384),
    (f"quay.io/app:v1@{SHA512}", "quay.io", "app", "v1", SHA512),
    # Lengths
    ("a" * 247, "", f"library/{'a' * 247}", "latest", None),
    (f"docker.io/{'a' * 247}", "", f"library/{'a' * 247}", "latest", None),
    (f"quay.io/{'a' * 255}", "quay.io", "a" * 255, "latest", None),
    (f"{'h' * 300}.com/{'a' * 127}/{'b' * 127}:t", f"{'h' * 300}.com", f"{'a' * 127}/{'b' * 127}", "t", None),
]

REFUSED = [
    # No name at all
    "",
    "/",
    ":",
    "@",
    ":1",
    f"@{SHA256}",
    "quay.io/",
    "quay.io/:1",
    "docker.io/",
    "localhost/",
    # An image's id
    HEX,
    # Paths
    "app ",
    " app",
    "app\n",
    "app\0",
    "a/b\n",
    "-a",
    "a-",
    "_a",
    "a_",
    ".a",
    "a.",
    "a..b",
    "a._b",
    "a___b",
    "a-.b",
    "a+b",
    "a%20b",
    "a\\b",
    "team//app",
    "team/app/",
    "https://quay.io/app",
    "café",
    "team/\uff41pp",
    "team/app٣",
    "app\u212a",  # the Kelvin sign: its lower case is an ASCII k
    "\ud800",
    # Registries
    "quay..io/app",
    ".io/app",
    "quay.io./app",
    "-quay.io/app",
    "quay-.io/app",
    "my_registry.com/app",
    "my_Host/app",
    "host:/app",
    "host:port/app",
    "host:50\n/app",
    "host:5000:1/app",
    "host:٣/app",
    "café.com/app",
    "É/app",
    "::1/app",
    "2001:db8::2/app",
    "[]:1/app",
    "[::1/app",
    "::1]/app",
    "[::1]",
    "[::1]x/app",
    "[::g]/app",
    "[fe80::1%25eth0]/app",
    "[::ffff:1.2.3.4]/app",
    # Tags
    "app:",
    "app:.1",
    "app:-1",
    "app:1:2",
    "app:a/b",
    "team/app:a/b",
    "app:1\n",
    "app:a+b",
    "app:é",
    "app:٣",
    f"app:{'t' * 129}",
    f"app:@{SHA256}",
    # Digests
    "a@b@c",
    "app@",
    "app:1@",
    f"app@{HEX}",
    f"app@:{HEX}",
    f"app@sha256{HEX}",
    f"app@sha256:{HEX[:-1]}",
    f"app@sha256:{HEX}0",
    f"app@sha256:{HEX.upper()}",
    f"app@sha256:{HEX[:-1]}g",
    f"app@sha256:{HEX[:-1]}\n",
    f"app@sha256:{HEX[:-1]}٣",
    f"app@{SHA256}\n",
    f"app@SHA256:{HEX}",
    f"app@sha384:{HEX}",
    f"app@sha512:{HEX}",
    f"app@md5:{HEX[:32]}",
    f"app@sha256+b64:{HEX}",
    f"app@{SHA256}:1",
    f"app@{SHA256}@{SHA256}",
    f"app@{SHA256}/x",
    # Lengths: `library/` counts
    "a" * 248,
    f"docker.io/{'a' * 248}",
    f"quay.io/{'a' * 256}",
    f"quay.io/{'a' * 128}/{'b' * 127}",
]

REASONS = [
    (7, "name must be a str, got 7"),
    (b"mongo", "name must be a str, got b'mongo'"),
    (None, "name must be a str, got None"),
    ("", "name must not be empty, got ''"),
    (HEX, f"name must not be an image id (64 hex digits), got '{HEX}'"),
    (f"sha256:{HEX}", f"name must not be an image id (64 hex digits), got 'sha256:{HEX}'"),
    ("Mongo:1", "image 'Mongo:1': expected a repository in lower case, got 'Mongo'"),
    ("quay.io/Team/app", "image 'quay.io/Team/app': expected a repository in lower case, got 'Team/app'"),
    ("Team/App", "image 'Team/App': expected a repository in lower case, got 'App'"),
    (
        "a//b",
        (
            "image 'a//b': expected a repository of a-z and 0-9 in parts divided by '/', with single '.', '_', '__' or dashes "
            "inside a part, got 'a//b'"
        ),
    ),
    (
        "host:x/app",
        "image 'host:x/app': expected a registry such as example.com, example.com:5000 or [2001:db8::2]:5000, got 'host:x'",
    ),
    (
        "app:",
        "image 'app:': expected a tag of 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-', got ''",
    ),
    (
        "app@sha256:066978",
        (
            "image 'app@sha256:066978': expected a digest of sha256 and 64, sha384 and 96, sha512 and 128 lower-case hex digits, "
            "got 'sha256:066978'"
        ),
    ),
    (f"quay.io/{'a' * 256}", f"image 'quay.io/{'a' * 48}...: expected a repository of at most 255 characters, got 256"),
]


def test_the_vectors_are_all_there() -> None:
    """The file of vectors has its 34 rows."""
    assert len(VECTORS) == vectors.LINES["image"] == 34


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["image"] or "empty")
def test_vectors(vector: dict[str, str]) -> None:
    """Each vector gives Fn's triple, or is refused."""
    if "error" in vector:
        with pytest.raises(ImageError):
            parse_image(vector["image"])
    else:
        assert parse_image(vector["image"]).triple == (vector["registry"], vector["repository"], vector["tag"])


@pytest.mark.parametrize(("name", "registry", "repository", "tag", "digest"), ACCEPTED)
def test_accepted(name: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    """Each part of a name goes where Docker puts it, and a digest goes before a tag in the triple."""
    ref = parse_image(name)
    assert ref == ImageRef(registry, repository, tag, digest)
    assert ref.triple == (registry, repository, digest or tag)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Whatever Docker refuses is an ImageError, and so a ValueError."""
    with pytest.raises(ImageError) as caught:
        parse_image(name)
    assert isinstance(caught.value, CallstatsError)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), REASONS)
def test_reasons(name: str, reason: str) -> None:
    """An error says in one line what was expected and what came."""
    with pytest.raises(ImageError) as caught:
        parse_image(name)
    assert str(caught.value) == reason


def test_a_huge_name_gives_a_short_error_at_once() -> None:
    """Neither the time nor the message grows out of hand with the name."""
    for name in ("a" * 1_000_000, "a-" * 500_000, "a." * 500_000 + "/app", "a/" * 500_000, "app:" + "t" * 1_000_000):
        with pytest.raises(ImageError) as caught:
            parse_image(name)
        assert len(str(caught.value)) < 800


def test_a_reference_is_frozen_and_hashable() -> None:
    """A reference can be a key, and its parts can't be changed."""
    ref = parse_image("mongo")
    assert {ref: 1}[parse_image("docker.io/library/mongo:latest")] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        ref.tag = "v2"  # type: ignore[misc]


def _join(parts: st.SearchStrategy[str], by: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(by, parts), max_size=most - 1)
    return st.builds(lambda first, others: first + "".join(sep + part for sep, part in others), parts, pairs)


LOWER = string.ascii_lowercase + string.digits
words = st.text(LOWER, min_size=1, max_size=6)
path_parts = _join(words, st.sampled_from((".", "_", "__", "-", "---")), 3)
paths = _join(path_parts, st.just("/"), 4)
labels = _join(st.text(string.ascii_letters + string.digits, min_size=1, max_size=5), st.sampled_from(("-", "--")), 2)
hosts = st.one_of(
    st.builds("{}.{}".format, labels, labels),
    st.builds("{}:{}".format, labels, st.integers(0, 99_999)),
    st.builds("[{}]".format, st.text(string.hexdigits, min_size=1, max_size=4).map(lambda group: f"{group}::{group}")),
    st.just("localhost"),
    st.just("registry-1.docker.io"),
    labels.filter(lambda label: label != label.lower()),
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.sampled_from((("sha256", 64), ("sha384", 96), ("sha512", 128))).flatmap(
    lambda kind: st.text("0123456789abcdef", min_size=kind[1], max_size=kind[1]).map(lambda digits: f"{kind[0]}:{digits}")
)


def _written(ref: ImageRef) -> str:
    """The full name of a reference, with Docker Hub named."""
    tag = f":{ref.tag}" if ref.tag else ""
    return f"{ref.registry or 'docker.io'}/{ref.repository}{tag}{f'@{ref.digest}' if ref.digest else ''}"


@given(st.none() | hosts, paths, st.none() | tags, st.none() | digests)
def test_round_trip(registry: str | None, path: str, tag: str | None, digest: str | None) -> None:
    """A name put together from its parts comes apart into them, and so does the full name of what came out."""
    repository = path if registry or "/" in path else f"library/{path}"
    ref = ImageRef(registry or "", repository, tag or (None if digest else "latest"), digest)
    name = f"{registry or 'docker.io'}/{path}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}"
    assert parse_image(name) == ref
    assert parse_image(_written(ref)) == ref


@given(st.text("aZ0._-/:@[]\n é", max_size=12) | st.text(max_size=12))
def test_any_text_is_parsed_or_refused(name: str) -> None:
    """No text raises anything but ImageError, and what is accepted can be written in full and read again."""
    try:
        ref = parse_image(name)
    except ImageError:
        return
    assert name.isascii()
    assert parse_image(_written(ref)) == ref
