"""Small videos for tests, made by PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Planes = Sequence[NDArray[Any]]

LOSSLESS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "0", "preset": "ultrafast"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}
BT709 = (1, 1, 1, 1)
"""Primaries, transfer, matrix, range (1 is narrow, 2 full)."""

UNTAGGED = (2, 2, 2, 0)


def write_video(
    path: Path,
    frames: Sequence[Planes],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    tags: tuple[int, int, int, int] = BT709,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    movflags: str = "",
) -> Path:
    """Write frames, each a list of planes, at 25 a second or at `times` in milliseconds, as the suffix says."""
    settings = dict(LOSSLESS.get(codec, {}) if options is None else options)
    if codec == "libx265":
        settings["x265-params"] = "log-level=none"
    muxer = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=muxer, options={"movflags": movflags} if movflags else {}) as container:
        stream: Any = container.add_stream(codec, rate=25 if times is None else 1000, options=settings)
        stream.height, stream.width = frames[0][0].shape
        stream.pix_fmt = layout
        stream.codec_context.thread_count = 1
        _tag(stream, tags)
        for number, planes in enumerate(frames):
            frame = video_frame(planes, layout)
            frame.time_base = Fraction(1, 25 if times is None else 1000)
            frame.pts = number if times is None else times[number]
            _tag(frame, tags)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _tag(target: Any, tags: tuple[int, int, int, int]) -> None:
    target.color_primaries, target.color_trc, target.colorspace, target.color_range = tags


def video_frame(planes: Planes, layout: str) -> av.VideoFrame:
    """Make a frame of planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        row = plane.line_size // values.itemsize
        target: NDArray[Any] = np.ndarray((plane.height, row), values.dtype, buffer=plane)  # type: ignore[call-overload]
        target[:, : values.shape[1]] = values
    return frame


def gray_planes(value: int, height: int = 48, width: int = 64) -> Planes:
    """Return a flat gray frame in yuv420p: luma `value`, no chroma."""
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return [np.full((height, width), value, np.uint8), chroma, chroma]


def moving_planes(count: int, height: int = 96, width: int = 128, seed: int = 0) -> list[Planes]:
    """Return frames in yuv420p of a smooth picture that moves by two pixels a frame."""
    random = np.random.default_rng(seed)
    coarse = random.integers(16, 236, (3, height // 8, (width + 2 * count) // 8 + 1), dtype=np.uint8)
    y, u, v = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return [
        [y[:, 2 * k : 2 * k + width], *(plane[::2, 2 * k : 2 * k + width : 2] for plane in (u, v))]
        for k in range(count)
    ]


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write a display matrix (ISO/IEC 14496-12, 8.3.2) into the track of an MP4: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
