"""What TensorRT timed while it built, kept for the next build on the same host: one file for each library and GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from iqa_runtime.artefacts.host_key import HostKey
from iqa_runtime.errors import FileError
from iqa_runtime.files.overwriting import write_at_once


def cache_path(folder: Path, host: HostKey) -> Path:
    """Return the file of a host in the folder of caches."""
    gpu = host.gpu
    where = "no-gpu" if gpu is None else f"{gpu.name}-{gpu.compute_capability[0]}{gpu.compute_capability[1]}"
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", f"{host.library}-{host.version}-{where}").lower() + ".timing")


def prepare_cache(path: Path) -> bytes:
    """Make the folder of a cache, so that what is wrong with it shows before the build, and read what is in the file.

    Raises
    ------
    FileError
        If the folder cannot be made or the file not be read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise FileError(f"{path}: cannot use the timing cache ({error.strerror}); check folder and disk") from error


def use_cache(config: Any, content: bytes) -> None:
    """Let a build start with earlier timings; with none where TensorRT finds they don't fit."""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def save_cache(config: Any, path: Path) -> None:
    """Keep the timings of a build.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    write_at_once(path, bytes(config.get_timing_cache().serialize()))
