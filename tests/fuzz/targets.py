"""What is fuzzed: everything that reads bytes from outside. Each target ends in a result or in an `IqaError`.

Run as a program, it sends files through one target in a process of limited memory: ``targets.py TARGET FILE...``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from iqa_runtime.artefacts.contract_json import contract_from_json, contract_to_json
from iqa_runtime.artefacts.engine_file import check_host, read_engine_file
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.host_key import HostKey
from iqa_runtime.artefacts.opening import open_artefact, read_contract
from iqa_runtime.commands.resuming import read_rows, resume_from
from iqa_runtime.commands.rows import Format
from iqa_runtime.cuda import Gpu
from iqa_runtime.errors import IqaError
from iqa_runtime.images.loading import load_image, load_with_color
from iqa_runtime.video import read_frames

PIXEL_LIMIT = 1_000_000
"""Of the fuzzed pictures: 3 MB of pixels, so that a gigabyte is never explained by them."""

MORE_MEMORY = 2**30
"""Bytes that a target may take beyond what the process had with everything imported."""

_TEMPORARY = tempfile.TemporaryDirectory(prefix="iqa-fuzz.", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
_FOLDER = Path(_TEMPORARY.name)
_HOST = HostKey(
    library="tensorrt",
    version="10.3.0",
    platform="Linux aarch64",
    gpu=Gpu(name="Orin", compute_capability=(8, 7), driver="CUDA 12.6"),
)


def image(data: bytes) -> None:
    """Decode a picture, and its middle row alone: if that can be had, then all of it can, with the same row."""
    middle = load_with_color(data, pixel_limit=PIXEL_LIMIT, frame="first", bands=lambda height, _: [_middle(height)])
    pixels = load_image(data, pixel_limit=PIXEL_LIMIT, frame="first")
    if middle.bands is not None:
        np.testing.assert_array_equal(middle.pixels, pixels[slice(*_middle(len(pixels)))])
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= PIXEL_LIMIT


def video(data: bytes) -> None:
    """Decode a video."""
    for frame in read_frames(data, every=0.04, pixel_limit=PIXEL_LIMIT):
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.ndim == 3
        assert frame.pixels.shape[2] == 3
        assert 0 < frame.pixels.shape[0] * frame.pixels.shape[1] <= PIXEL_LIMIT
        assert frame.time >= 0


def contract(data: bytes) -> None:
    """Read a contract, and what is written of it."""
    found = contract_from_json(data)
    assert contract_from_json(contract_to_json(found)) == found


def artefact(data: bytes) -> None:
    """Open an ONNX file. Its digest is checked last, so that few changed ones come to the end."""
    path = _written("x.onnx", data)
    found = read_contract(path)
    opened = open_artefact(path)
    assert opened.contract == found


def description(data: bytes) -> None:
    """Read what is said of an engine, and use it as commands do."""
    plan = _FOLDER / "x.plan"
    _written(description_path(plan).name, data)
    found = read_engine_file(plan)
    texts = (found.rebuild_command, found.marking_command, found.refit_command(plan), str(found.host))
    assert all(text.isprintable() for text in texts)
    _written(description_path(plan).name, found.to_json())
    assert read_engine_file(plan) == found
    check_host(plan, found, _HOST)


def rows(data: bytes) -> None:
    """Read an earlier run's rows, in both formats."""
    path = _written("rows", data)
    for form in (Format.JSONL, Format.CSV):
        try:
            found = read_rows(path, form)
        except IqaError:
            continue
        keep, left = resume_from(path, form, ["a.png", *(row["path"] for row in found)])
        assert len(keep) <= len(found)
        assert len(left) <= len(found) + 1


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (image, video, contract, artefact, description, rows)
}


def run(target: str, data: bytes) -> IqaError | None:
    """Send bytes through a target; return the error that it ended in, if any. Everything else is a finding."""
    ended: IqaError | None = None
    try:
        TARGETS[target](data)
    except IqaError as error:
        ended = error
    assert ended is None or str(ended).strip(), "an error without a message"
    return ended


def _middle(height: int) -> tuple[int, int]:
    return height // 2, height // 2 + 1


def _written(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _limit_memory() -> None:
    """Let this process take `MORE_MEMORY` from here on, as address space: an allocation beyond it fails at once."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(target: str, *files: str) -> None:
    """Send files through a target; say before each which it is, and how it ended."""
    import av  # what is loaded later would count
    import cv2

    assert av.__version__
    assert cv2.__version__
    _limit_memory()
    for file in files:
        print(Path(file).name, end=": ", flush=True)
        error = run(target, Path(file).read_bytes())
        print("result" if error is None else type(error).__name__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
