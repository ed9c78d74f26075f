"""JPEG XL files for tests: headers written bit by bit, before frames that imagecodecs has coded without loss."""

import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.images.jpegxl_header import read_codestream_header

WIDTH, HEIGHT = 90, 61
SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
HALF_OF_255 = 0x5BF8  # binary16


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, shape or (HEIGHT, WIDTH, 3), np.uint8)


def encoded(pixels: NDArray[Any], **options: Any) -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    data: bytes = imagecodecs.jpegxl_encode(pixels, **{"effort": 1} | options)
    return data


def decoded(data: bytes, **options: Any) -> NDArray[Any]:
    pixels: NDArray[Any] = pytest.importorskip("imagecodecs").jpegxl_decode(data, index=0, **options)
    return pixels


def stream_of(data: bytes) -> bytes:
    """Return the codestream of a file that imagecodecs has written, in boxes or not."""
    return data[data.index(b"jxlc") + 4 :] if data.startswith(SIGNATURE) else data


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def boxed(*boxes: bytes) -> bytes:
    return SIGNATURE + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(boxes)


class Bits:
    """Bits, the low one of a byte first."""

    def __init__(self, *numbers: tuple[int, int]) -> None:
        self.value = self.count = 0
        self.put(*numbers)

    def put(self, *numbers: tuple[int, int]) -> "Bits":
        """Append numbers of so many bits."""
        for number, bits in numbers:
            self.value |= number << self.count
            self.count += bits
        return self

    def bytes(self) -> bytes:
        return self.value.to_bytes(-(-self.count // 8), "little")


Numbers = list[tuple[int, int]]
SRGB: Numbers = [(1, 1)]


def side(length: int) -> Numbers:
    return [(3, 2), (length - 1, 30)]


def code_point(value: int) -> Numbers:
    return [(value, 2)] if value < 2 else [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]


def xy(*values: float) -> Numbers:
    return [pair for value in values for pair in packed(round(value * 1e6))]


def packed(value: int) -> Numbers:
    """Code a number of a sign, which is positive here."""
    least = next(least for least in (2097152, 1048576, 524288, 0) if 2 * value >= least)
    kind, bits = {0: (0, 19), 524288: (1, 19), 1048576: (2, 20), 2097152: (3, 21)}[least]
    return [(kind, 2), (2 * value - least, bits)]


def space(
    primaries: int | tuple[float, ...] = 1, transfer: int | float = 13, *, white: int = 1, kind: int = 0, icc: int = 0
) -> Numbers:
    """Say what colours are; a transfer that is no whole number is an exponent."""
    numbers: Numbers = [(0, 1), (icc, 1), *code_point(kind)]
    if icc:
        return numbers
    numbers += code_point(white)
    if kind == 0:
        numbers += code_point(2) + xy(*primaries) if isinstance(primaries, tuple) else code_point(primaries)
    is_exponent = isinstance(transfer, float)
    numbers += [(1, 1), (round(transfer * 1e7), 24)] if is_exponent else [(0, 1), *code_point(int(transfer))]
    return [*numbers, *code_point(1)]


def header(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    orientation: int = 1,
    depth: int = 8,
    alpha: str = "none",
    xyb: bool = False,
    colors: Numbers = SRGB,
    animated: bool = False,
    preview: bool = False,
    channels: Numbers | None = None,
    full: bool = False,
) -> bytes:
    """Write a header; a `full` one has everything in it that counts for nothing here."""
    bits = Bits((0x0AFF, 16), (0, 1), *side(height), (0, 3), *side(width), (0, 1), (1, 1))
    shown_at: Numbers = [(1, 1), (1, 1), (4, 5), (3, 3)] if full else [(0, 1)]
    bits.put((orientation - 1, 3), *shown_at, (int(preview), 1), (int(animated), 1))
    if animated:
        bits.put((0, 2), (0, 2), (0, 2), (0, 1))
    bits.put((0, 1), (3, 2), (depth - 1, 6), (1, 1))
    straight: Numbers = [(1, 2), (1, 1)]
    premultiplied: Numbers = [(1, 2), (0, 1), (0, 2), (0, 1), (0, 2), (0, 2), (0, 2), (1, 1)]
    bits.put(*(channels or {"none": [(0, 2)], "straight": straight, "premultiplied": premultiplied}[alpha]))
    brightness: Numbers = [(0, 1), (HALF_OF_255, 16), (0, 16), (0, 1), (0, 16)] if full else [(1, 1)]
    extension: Numbers = [(1, 2), (0, 4), (2, 2), (3, 8), (0xABCDE, 20)] if full else [(0, 2)]
    transform: Numbers = [(0, 1), (1, 3), *[(0, 16)] * 15] if full else [(1, 1)]
    bits.put((int(xyb), 1), *colors, *brightness, *extension, *transform)
    return bits.bytes()


def with_header(data: bytes, **options: Any) -> bytes:
    """Put another header before the frames of a file."""
    stream = stream_of(data)
    return header(**options) + stream[read_codestream_header(stream).end :]


def section_of(data: bytes, frame: int) -> bytes:
    """Return the one section of a lossless file whose frame has a header of so many bits, contents included."""
    stream = stream_of(data)
    start = read_codestream_header(stream).end + -(-frame // 8)
    number = int.from_bytes(stream[start : start + 4], "little")
    bits, least = ((10, 0), (14, 1024), (22, 17408), (30, 4211712))[number & 3]
    size = (number >> 2 & (1 << bits) - 1) + least
    assert len(stream) == start + -(-(2 + bits) // 8) + size
    return stream[-size:]


def frame(
    section: bytes,
    *,
    kind: int = 0,
    crop: tuple[int, int, int, int] | None = None,
    mode: int = 0,
    duration: int | None = None,
    last: bool = True,
    slot: int = 0,
    permuted: int = 0,
) -> bytes:
    """Write a frame of RGB without loss: where it lies (left, top, width, height), and how it is laid over others."""
    bits = Bits((0, 1), (kind, 2), (1, 1), (0, 2), (0, 1), (0, 2), (1, 2), *([] if kind == 2 else [(0, 2)]))
    bits.put((int(crop is not None), 1))
    if crop is not None:
        for value in ([] if kind == 2 else [2 * place for place in crop[:2]]) + list(crop[2:]):
            bits.put((0, 2), (value, 8)) if value < 256 else bits.put((3, 2), (value - 18688, 30))
    if kind != 2:
        bits.put((mode, 2))
        if mode or crop:
            bits.put((1, 2))  # laid over what is in the first slot
        if duration is not None:
            bits.put((2, 2), (duration, 8))
        bits.put((int(last), 1))
    if not last or kind == 2:
        bits.put((slot, 2))
        if kind == 2 or not (crop or mode or (duration and not slot)):
            bits.put((int(kind == 2), 1))
    bits.put((0, 2), (0, 1), (0, 1), (0, 2), (0, 2), (0, 2), (permuted, 1))
    assert len(section) < 1024
    return bits.bytes() + Bits((0, 2), (len(section), 10)).bytes() + section


LOSSLESS_FRAME_BITS = 28
"""Of the header of a frame as the encoder writes it for RGB, with the one bit of its table of contents."""


def solid(*color: int) -> bytes:
    """Return the coded data of a small picture of one colour."""
    pixels = np.full((16, 16, 3), color, np.uint8)
    return section_of(encoded(pixels), LOSSLESS_FRAME_BITS)
