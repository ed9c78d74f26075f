"""Object stores through pyarrow, whose wheels speak to S3 and to Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

ARROW_STORES = ("s3", "gs")
"""Schemes."""


class ArrowStore:
    """Reads objects, as a file system of fsspec does, as far as `iqa_runtime.files.remote` asks for it.

    Credentials, regions and endpoints are those that pyarrow finds in the environment. Safe from several threads.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._systems: dict[str, Any] = {}

    @contextmanager
    def open(self, uri: str, mode: str, cache_type: str) -> Iterator[_Object]:
        """Open an object to read it."""
        del mode, cache_type
        scheme, _, path = uri.partition("://")
        path = path.rpartition("@")[2] if "@" in path.partition("/")[0] else path
        with self._system(f"{scheme}://{path.partition('/')[0]}").open_input_file(path) as file:
            yield _Object(file)

    def _system(self, bucket: str) -> Any:
        """Return the file system of a bucket, which has a region of its own."""
        from pyarrow.fs import FileSystem

        with self._lock:
            if bucket not in self._systems:
                self._systems[bucket], _ = FileSystem.from_uri(bucket)
            return self._systems[bucket]


class _Object:
    """An open object."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.size: int = file.size()

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        return data
