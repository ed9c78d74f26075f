"""Fetch images of other hosts through fsspec (extra ``remote``), within limits of bytes, time and redirects."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from threading import Lock
from typing import Any

from iqa_runtime import __version__
from iqa_runtime.arguments import check_given, check_number, check_seconds
from iqa_runtime.errors import DependencyError, FileError, UsageError, needing
from iqa_runtime.files.arrow_stores import ARROW_STORES, ArrowStore
from iqa_runtime.files.uris import SCHEMES, public_name, scheme_of
from iqa_runtime.forking import tell_after_fork
from iqa_runtime.images.loading import Source
from iqa_runtime.images.named import NamedImage
from iqa_runtime.scoring.time_limits import TimeLimit, in_thread

DEFAULT_FETCH_BYTES = 128 * 2**20
"""Above the largest photographs of today's cameras, also without compression: 32 megapixels in RGB take 96 MB."""

DEFAULT_FETCH_TIMEOUT = 60.0
"""Seconds for one file: 128 MB take as long at 18 Mbit/s."""

MAX_REDIRECTS = 5
"""Of web servers; image hosts and object stores take one or two."""

AHEAD = 8
"""Files that are fetched ahead of decoding: most of a fetch is waiting for the other host."""

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
_PIECE = 2**18
_ENCODED = re.compile(r"[!#$&-;=?-\[\]_a-z~%]*")
"""Characters of an address that needs no quoting (RFC 3986); quoting it again could break a signature."""


class Fetcher:
    """Fetches files. Safe to use from several threads.

    Credentials and proxies are those of the environment, found by the package that speaks to the store; none is taken
    from here. Nothing is kept on disk.

    Parameters
    ----------
    fetch_bytes
        Most bytes a file may have.
    fetch_timeout
        Seconds. How long one may take, from its first request to its last byte.

    Raises
    ------
    UsageError
        If one is out of range.
    """

    def __init__(self, fetch_bytes: int = DEFAULT_FETCH_BYTES, fetch_timeout: float = DEFAULT_FETCH_TIMEOUT) -> None:
        check_given("fetch_bytes", fetch_bytes)
        check_given("fetch_timeout", fetch_timeout)
        check_number("fetch_bytes", fetch_bytes)
        check_seconds("fetch_timeout", fetch_timeout)
        self._bytes, self._seconds = fetch_bytes, fetch_timeout
        self._limit = TimeLimit(fetch_timeout)
        self._lock = Lock()
        self._systems: dict[Hashable, Any] = {}
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew: connections are the parent's."""
        self._lock, self._systems = Lock(), {}

    def image(self, uri: str, name: str | None = None) -> RemoteImage:
        """Return an image that is fetched when it is decoded, or when it is told to `RemoteImage.begin`.

        Parameters
        ----------
        uri
            As in `fetch`.
        name
            What to call it; None for what may be shown of its address.
        """
        return RemoteImage(uri, self, public_name(uri) if name is None else name)

    def fetch(self, uri: str) -> bytes:
        """Return the bytes of a file; one that is cut, or not the one it was, has none.

        Parameters
        ----------
        uri
            ``https://``, ``http://``, ``s3://``, ``gs://`` or ``az://``.

        Raises
        ------
        FileError
            If it cannot be had within the limits. The message has no more of the address than
            `iqa_runtime.files.uris.public_name`, and nothing of what the other host says but a status.
        DependencyError
            If a package is missing that speaks to its host.
        """
        name, scheme = public_name(uri), scheme_of(uri)
        if scheme not in SCHEMES:
            raise FileError(f"{name}: {scheme}:// is not fetched; give {', '.join(SCHEMES)}, or the path of a file")
        try:
            # Packages are imported before the clock runs.
            if scheme in ("http", "https"):
                read = partial(self._read_web, self._web(uri), uri)
            else:
                read = partial(self._read_store, self._system(scheme), uri)
            # The libraries have limits of their own; none holds for the whole in every one of them.
            return self._limit.call(read)
        except DependencyError as error:
            raise DependencyError(f"{name}: {error}") from None
        except MemoryError:
            raise
        except FileError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"not there within {self._seconds:g} s; try again, or raise ``fetch_timeout``"
        except Exception as error:
            reason = _reason(error)
        # Without what led here: it holds the whole address.
        raise FileError(f"{name}: cannot be fetched: {reason}") from None

    def _web(self, uri: str) -> Any:
        # Proxies of the environment are used, as by other programs.
        encoded = _ENCODED.fullmatch(uri) is not None
        settings = {"trust_env": True, "headers": {"User-Agent": f"iqa-deploy/{__version__}"}}
        return self._system("https", client_kwargs=settings, encoded=encoded)

    def _read_web(self, system: Any, uri: str) -> bytes:
        import aiohttp

        # A size that is not asked for, and no blocks: one request, whose answer is read as it comes.
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        with system.open(uri, block_size=0, size=-1, timeout=timeout, max_redirects=MAX_REDIRECTS) as file:
            answer = file.r
            _check_steps([step.url.scheme for step in (*answer.history, answer)])
            self._check_size(answer.content_length or 0)
            data = bytearray()
            while piece := file.read(_PIECE):
                data += piece
                self._check_size(len(data))
        return bytes(data)

    def _read_store(self, system: Any, uri: str) -> bytes:
        with system.open(uri, "rb", cache_type="none") as file:
            self._check_size(file.size)
            data: bytes = file.read(file.size)
            if len(data) != file.size:
                raise FileError(f"{len(data)} of its {file.size} bytes came; try again")
        return data

    def _check_size(self, size: int) -> None:
        if size > self._bytes:
            raise FileError(f"more than {self._bytes} bytes; raise ``fetch_bytes``, or shrink it")

    def _system(self, scheme: str, **settings: Any) -> Any:
        """Return what speaks to a kind of hosts: fsspec itself would keep one for each thread."""
        with needing("what fetches files of other hosts", extras="remote"):
            import aiohttp  # noqa: F401 - of stores, their packages need it, too
            import fsspec
        key = scheme, settings.get("encoded")
        with self._lock:
            if key not in self._systems:
                try:
                    self._systems[key] = fsspec.filesystem(scheme, skip_instance_cache=True, **settings)
                except ImportError as error:
                    if scheme not in ARROW_STORES or find_spec("pyarrow") is None:
                        package = _PACKAGES[scheme]
                        raise DependencyError(f"{scheme}:// needs {package}, too; pip install {package}") from error
                    self._systems[key] = ArrowStore()
            return self._systems[key]


class RemoteImage(NamedImage):
    """An image of another host.

    Parameters
    ----------
    uri
        Its address.
    fetcher
        What fetches it.
    name
        What to call it.
    """

    def __init__(self, uri: str, fetcher: Fetcher, name: str) -> None:
        super().__init__(name)
        self._uri, self._fetcher = uri, fetcher
        self._coming: Future[bytes] | None = None

    @property
    def identity(self) -> Hashable:
        """Its address: within a run, one file."""
        return self._uri

    def begin(self) -> None:
        """Let it be fetched in a thread of its own, which keeps no process from ending."""
        with suppress(UsageError):  # without a thread it is fetched when it is read
            self._coming = in_thread(partial(self._fetcher.fetch, self._uri))

    def read(self) -> bytes:
        """Return the encoded image, once it is there; a second time it is fetched again.

        Raises
        ------
        FileError, DependencyError
            As `Fetcher.fetch`.
        """
        coming, self._coming = self._coming, None
        return self._fetcher.fetch(self._uri) if coming is None else coming.result()


def fetched_ahead(
    pairs: Iterable[tuple[Source, Source | None]], ahead: int = AHEAD
) -> Iterator[tuple[Source, Source | None]]:
    """Yield images with their references, those of other hosts begun `ahead` before they are wanted."""
    begun: deque[tuple[Source, Source | None]] = deque()
    last: Hashable = None
    for image, reference in pairs:
        if isinstance(image, RemoteImage):
            image.begin()
        # A decoded reference is kept for the next image that has the same one.
        if isinstance(reference, RemoteImage) and reference.identity != last:
            reference.begin()
            last = reference.identity
        begun.append((image, reference))
        if len(begun) > ahead:
            yield begun.popleft()
    yield from begun


def _check_steps(schemes: Sequence[str]) -> None:
    """Refuse an answer to a request that was safe from others on its way, and then was not."""
    if schemes[0] == "https" and {*schemes} != {"https"}:
        raise FileError("it leads from https to http; give the address that it leads to")


def _reason(error: Exception) -> str:
    """Say why in words that hold nothing of the address, which libraries like to repeat."""
    import aiohttp

    if isinstance(error, aiohttp.TooManyRedirects):
        return f"more than {MAX_REDIRECTS} redirects; give the address that they lead to"
    if isinstance(error, aiohttp.ClientResponseError):
        # aiohttp says 0 or 400 of an answer that it cannot read.
        unread = {0: "with what is no HTTP", 400: "400, or with what is no HTTP"}
        answer = unread.get(error.status, str(error.status))
        return f"the server answers {answer}; check the address, and whether it needs a login"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended before the file did; try again"
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the address"
    if isinstance(error, PermissionError):
        return "access is denied; check the credentials of the environment"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid; check the address"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the server speaks no TLS that is known here; check the address"
    if isinstance(error, aiohttp.ClientConnectorError):
        # What asyncio says holds the address that the name stands for.
        number = error.os_error.errno or 0
        said = os.strerror(number) if number > 0 else error.os_error.strerror or type(error).__name__
        return f"no connection ({said}); check the address and the network"
    return f"{type(error).__name__}; check the address, the network and the credentials of the environment"
