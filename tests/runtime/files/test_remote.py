"""Fetching: what a server may do to it, and what it says then."""

import re
import sys
import threading
from typing import Any, ClassVar, cast

import aiohttp
import pyarrow.fs
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from iqa_runtime import DependencyError, FileError, Scorer
from iqa_runtime.files import remote
from iqa_runtime.files.remote import MAX_REDIRECTS, Fetcher, RemoteImage, _reason, fetched_ahead
from iqa_runtime.scoring.time_limits import MAX_OVERDUE
from picture_server import MUCH, serve

SHORT = 0.3
"""Seconds to wait for what never comes."""


@pytest.fixture
def picture(tmp_path, noise, save_png):
    """The bytes of an image."""
    return save_png(tmp_path / "a.png", noise(48, 64)).read_bytes()


@pytest.fixture
def server(picture, monkeypatch):
    """The address of a server on this host."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(picture) as address:
        yield address


@pytest.mark.parametrize("path", ["picture", "unsized", "moved"])
def test_what_comes_whole_is_returned(server, picture, path):
    assert Fetcher().fetch(f"{server}/{path}/a%20b.jpg") == picture


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none", "there is no such file"),
        ("login", "the server answers 403"),
        ("round", f"more than {MAX_REDIRECTS} redirects"),
        ("cut", "the connection ended before the file did"),
        ("stalled", f"not there within {SHORT:g} s; try again, or raise ``fetch_timeout``"),
        ("silent", f"not there within {SHORT:g} s; try again, or raise ``fetch_timeout``"),
        ("promises-much", f"more than {MUCH} bytes; raise ``fetch_bytes``"),
        ("sends-much", f"more than {MUCH} bytes; raise ``fetch_bytes``"),
    ],
)
def test_what_does_not_is_an_error_that_shows_no_secret(server, path, reason):
    address = server.replace("//", "//user:pass@")
    with pytest.raises(FileError) as caught:
        Fetcher(fetch_bytes=MUCH, fetch_timeout=SHORT).fetch(f"{address}/{path}?token=t&id=3")
    assert str(caught.value).startswith(f"{server}/{path}?id=3: cannot be fetched: {reason}")
    assert "secret" not in str(caught.value)
    # What is kept of an error may be printed with all that led to it.
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_picture_that_was_cut_unseen_has_no_score(artefacts, server):
    paths = ("cut-unsized", "short", "picture")
    with Scorer(artefacts.mean()) as scorer:
        results = list(scorer.score_many(Fetcher().image(f"{server}/{path}") for path in paths))
    assert [result.value is None for result in results] == [True, True, False]
    assert [result.path for result in results] == [f"{server}/{path}" for path in paths]
    # What is sent beyond the length that was promised may be seen in time, or not.
    assert re.search(r"/short: (truncated PNG|cannot be fetched: .*no HTTP)", str(results[1].error))


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, "the server answers with what is no HTTP; "), (400, "400, or with what is no HTTP; "), (500, " 500; ")],
)
def test_an_answer_is_told_from_what_is_none(status, said):
    # Which of the two a client sees of a broken answer depends on when its bytes arrive.
    assert said in _reason(aiohttp.ClientResponseError(cast(Any, None), (), status=status))


def test_no_connection_is_an_error(server):
    dead = server.rpartition(":")[0] + ":1"
    with pytest.raises(FileError, match="cannot be fetched: no connection \\(Connection refused\\)"):
        Fetcher().fetch(f"{dead}/picture")


@pytest.mark.parametrize("schemes", [["https"], ["http"], ["http", "https"], ["http", "https", "http"]])
def test_redirects_to_what_is_as_safe_are_followed(schemes):
    remote._check_steps(schemes)


@pytest.mark.parametrize("schemes", [["https", "http"], ["https", "http", "https"]])
def test_redirects_from_https_to_http_are_refused(schemes):
    with pytest.raises(FileError, match="it leads from https to http"):
        remote._check_steps(schemes)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "ftp://h/a.jpg", "memory://a", "github://a:b@main/c"])
def test_other_schemes_are_not_fetched(uri):
    with pytest.raises(FileError, match=r"is not fetched; give https, http, s3, gs, az, or the path of a file"):
        Fetcher().fetch(uri)


class Store(MemoryFileSystem):
    """Stands for an object store: fsspec gives all of them the same form."""

    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]


@pytest.fixture
def fetcher():
    """A fetcher whose ``s3://`` is in memory."""
    fetcher = Fetcher(fetch_bytes=MUCH)
    fetcher._systems["s3", None] = Store()
    return fetcher


def test_objects_of_a_store_are_fetched_within_the_limit(fetcher, picture):
    store = fetcher._systems["s3", None]
    store.pipe("s3://bucket/a b#1.png", picture)
    assert fetcher.fetch("s3://bucket/a b#1.png") == picture
    store.pipe("s3://bucket/large.png", bytes(MUCH + 1))
    with pytest.raises(FileError, match=r"s3://bucket/large.png: cannot be fetched: more than"):
        fetcher.fetch("s3://bucket/large.png")
    with pytest.raises(FileError, match=r"s3://bucket/none.png: cannot be fetched: there is no such file"):
        fetcher.fetch("s3://key:secret@bucket/none.png")


def test_an_object_that_comes_in_part_is_an_error(fetcher, picture, monkeypatch):
    store = fetcher._systems["s3", None]
    store.pipe("s3://bucket/a.png", picture)
    whole = store.open

    def shorter(path, mode, **settings):
        file = whole(path, mode, **settings)
        monkeypatch.setattr(type(file), "read", lambda _, size: picture[: size - 1])
        return file

    monkeypatch.setattr(store, "open", shorter)
    with pytest.raises(FileError, match=f"{len(picture) - 1} of its {len(picture)} bytes came"):
        fetcher.fetch("s3://bucket/a.png")


def test_a_store_that_never_answers_is_left_alone(monkeypatch):
    released = threading.Event()
    hanging = Fetcher(fetch_timeout=SHORT / 10)
    hanging._systems["s3", None] = store = Store()
    monkeypatch.setattr(store, "open", lambda *_, **__: released.wait())
    try:
        for _ in range(MAX_OVERDUE + 1):
            with pytest.raises(FileError, match="not there within"):
                hanging.fetch("s3://bucket/a.png")
        assert hanging._limit.overdue == MAX_OVERDUE
    finally:
        released.set()


def test_a_store_is_read_by_pyarrow_where_its_package_is_missing(tmp_path, picture, monkeypatch):
    asked = []

    class Local:
        @staticmethod
        def from_uri(uri):
            asked.append(uri)
            return pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem()), ""

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr("pyarrow.fs.FileSystem", Local)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a b#1.png").write_bytes(picture)
    (tmp_path / "bucket/large.png").write_bytes(bytes(MUCH + 1))
    fetcher = Fetcher(fetch_bytes=MUCH)
    for _ in range(2):
        assert fetcher.fetch("s3://bucket/a b#1.png") == picture
    with pytest.raises(FileError, match=r"s3://bucket/large.png: cannot be fetched: more than"):
        fetcher.fetch("s3://bucket/large.png")
    with pytest.raises(FileError, match=r"s3://bucket/none.png: cannot be fetched: there is no such file"):
        fetcher.fetch("s3://key:secret@bucket/none.png")
    assert asked == ["s3://bucket"]


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(DependencyError, match="az://b/a: az:// needs adlfs, too; pip install adlfs"):
        Fetcher().fetch("az://b/a")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr("iqa_runtime.files.remote.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="s3://b/a: s3:// needs s3fs, too; pip install s3fs"):
        Fetcher().fetch("s3://b/a")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DependencyError, match=r'https://h/a: .*pip install "iqa-deploy\[remote\]"'):
        Fetcher().fetch("https://h/a")


def test_files_are_begun_before_they_are_wanted_and_shared_references_once(monkeypatch):
    begun = []
    monkeypatch.setattr(RemoteImage, "begin", lambda self: begun.append(self.name))
    fetcher = Fetcher()
    pairs = [(fetcher.image(f"https://h/{number}"), fetcher.image("https://h/r")) for number in range(20)]
    ahead = fetched_ahead(pairs, 3)
    assert next(ahead) == pairs[0]
    assert begun == [*("https://h/0", "https://h/r"), *(f"https://h/{number}" for number in range(1, 4))]
    assert list(ahead) == pairs[1:]


def test_one_that_was_begun_is_fetched_once(picture, fetcher, monkeypatch):
    fetched = []
    monkeypatch.setattr(fetcher, "fetch", lambda uri: fetched.append(uri) or picture)
    image = fetcher.image("s3://bucket/a.png", "seventeen")
    image.begin()
    assert (image.read(), fetched, image.name) == (picture, ["s3://bucket/a.png"], "seventeen")
    assert (image.read(), len(fetched)) == (picture, 2)
