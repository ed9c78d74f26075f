"""Read JPEG 2000: the boxes of JP2 files (ITU-T T.800, Annex I), and codestreams without them.

OpenCV decodes components; what they mean is decided here, because decoders differ on palettes, YCbCr and transparency.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import UNTAGGED, ColorTag
from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED, Alpha, ImageHeader
from iqa_runtime.images.isobmff import Box, read_boxes
from iqa_runtime.images.jpeg2000_codestream import read_codestream
from iqa_runtime.images.opencv import decode_with_opencv
from iqa_runtime.images.pixels import in_bands, over_white
from iqa_runtime.images.tiff_samples import rgb_of_ycbcr

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_SRGB, _GRAY, _SYCC = 16, 17, 18  # enumerated colour spaces
_ENUMERATED, _PROFILES = 1, (2, 3)  # methods of telling colours
_COLORS = {_SRGB: 3, _GRAY: 1, _SYCC: 3}
_COLOR, _ALPHA, _PREMULTIPLIED = 0, 1, 2  # what a channel is
_WHOLE = (0, 65535)  # images that a channel of transparency is for
_PALETTE_DEPTH = 8


@dataclass(slots=True, kw_only=True)
class _Jp2:
    """What the boxes say: where the codestream lies, colours, the palette (entries x columns) and channels in order."""

    stream: tuple[int, int] = (0, 0)
    space: int | None = None
    profile: bytes | None = None
    palette: NDArray[np.uint8] | None = None
    mapping: bytes | None = None
    meanings: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channels:
    """How pixels are made: where the codestream lies, and which channels are colours and transparency."""

    stream: tuple[int, int]
    depths: tuple[int, ...]
    palette: NDArray[np.uint8] | None
    colors: list[int]
    alpha: int | None
    is_ycc: bool


def inspect_jpeg2000(data: bytes) -> ImageHeader:
    """Walk the boxes and the codestream up to its end marker; what follows that is ignored."""
    boxes = _read_boxes(data) if data.startswith(_SIGNATURE) else _Jp2(stream=(0, len(data)))
    stream = read_codestream(data, *boxes.stream)
    count = len(stream.depths)
    if boxes.palette is not None:
        if count != 1 or boxes.mapping != _plain_mapping(boxes.palette.shape[1]):
            raise ImageError(f"a JPEG 2000 whose palette is not for its one component in order; {ADVICE}")
        count = boxes.palette.shape[1]
    elif len(set(stream.depths)) > 1:
        raise ImageError(f"a JPEG 2000 of components of {stream.depths} bits; {ADVICE}")
    space = boxes.space if boxes.space is not None else _GRAY if count <= 2 else _SRGB
    colors, alpha, kind = _assign(boxes.meanings, count, _COLORS[space])
    if len(stream.depths) == 2:
        raise ImageError(f"a JPEG 2000 of gray and transparency, which is not read; {ADVICE}")
    return ImageHeader(
        format="JPEG 2000",
        width=stream.width,
        height=stream.height,
        depth=stream.depths[0],
        alpha=kind,
        channels="gray" if space == _GRAY else "RGB",
        color=_color_tag(boxes),
        parsed=_Channels(
            stream=(boxes.stream[0], stream.end),
            depths=stream.depths,
            palette=boxes.palette,
            colors=colors,
            alpha=alpha,
            is_ycc=space == _SYCC,
        ),
    )


def decode_jpeg2000(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_jpeg2000` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it, or a pixel has a colour that is not in the palette.
    """
    import cv2

    channels: _Channels = header.parsed
    file = _with_plain_boxes(data, header, channels)
    stored = decode_with_opencv(file, header.format, header.width, header.height, cv2.IMREAD_UNCHANGED)
    if stored.ndim == 2:
        stored = stored[..., None]
    elif stored.shape[2] >= 3:
        stored = stored[..., [2, 1, 0, 3][: stored.shape[2]]]
    if stored.shape[2] != len(channels.depths):
        raise ImageError(f"corrupt JPEG 2000: {stored.shape[2]} of {len(channels.depths)} components; {DAMAGED}")
    if channels.palette is not None and stored.max() >= len(channels.palette):
        raise ImageError(f"corrupt JPEG 2000: a colour beyond the {len(channels.palette)} of its palette; {DAMAGED}")

    def make(band: slice) -> NDArray[np.uint8]:
        if channels.palette is not None:
            samples = channels.palette[stored[band][..., 0]]
        else:
            samples = (stored[band] >> header.depth - 8).astype(np.uint8)
        color = samples[..., channels.colors]
        alpha = None if channels.alpha is None else samples[..., channels.alpha]
        if channels.is_ycc:
            color = rgb_of_ycbcr(color)
        if alpha is not None and header.alpha == "premultiplied":
            return conversion.apply(over_white(color, alpha, premultiplied=True))
        color = conversion.apply(np.ascontiguousarray(color))
        return color if alpha is None else over_white(color, alpha, premultiplied=False)

    return in_bands(make, header.height, header.width)


def _read_boxes(data: bytes) -> _Jp2:
    """Read the boxes up to the first codestream."""
    file = _Jp2()
    position = len(_SIGNATURE)
    while True:
        # One by one: what follows the codestream need not be boxes, and the last may be of no stated length.
        box = next(read_boxes(data, position, len(data)), None)
        if box is None:
            raise ImageError(f"truncated JPEG 2000: the file ends after {len(data)} bytes without an image; {DAMAGED}")
        if box.kind == b"jp2h":
            for each in read_boxes(data, box.start, box.end):
                _read_header_box(data, each, file)
        elif box.kind == b"jp2c":
            file.stream = (box.start, box.end)
            return file
        position = box.end


def _read_header_box(data: bytes, box: Box, file: _Jp2) -> None:
    content = data[box.start : box.end]
    if box.kind == b"colr" and file.space is None and file.profile is None:
        method = content[0] if content else 0
        if method == _ENUMERATED:
            (file.space,) = struct.unpack_from(">I", content, 3)
            if file.space not in _COLORS:
                raise ImageError(f"a JPEG 2000 in colour space {file.space}, not sRGB, gray or sYCC; {ADVICE}")
        elif method in _PROFILES:
            file.profile = content[3:]
    elif box.kind == b"pclr":
        entries, columns = struct.unpack_from(">HB", content)
        depths = content[3 : 3 + columns]
        values = content[3 + columns :]
        if set(depths) != {_PALETTE_DEPTH - 1} or not 0 < entries <= 1024 or len(values) < entries * columns:
            raise ImageError(f"a JPEG 2000 with a palette of {entries} x {columns} values, not of 8 bits; {ADVICE}")
        file.palette = np.frombuffer(values, np.uint8, entries * columns).reshape(entries, columns)
    elif box.kind == b"cmap":
        file.mapping = content
    elif box.kind == b"cdef":
        for place in range(struct.unpack_from(">H", content)[0]):
            channel, kind, color = struct.unpack_from(">HHH", content, 2 + 6 * place)
            file.meanings[channel] = kind, color


def _plain_mapping(columns: int) -> bytes:
    return b"".join(struct.pack(">HBB", 0, 1, column) for column in range(columns))


def _assign(meanings: dict[int, tuple[int, int]], count: int, colors: int) -> tuple[list[int], int | None, Alpha]:
    """Return which channels are the colours, in order, and which is transparency."""
    order = list(range(colors)) if not meanings else [-1] * colors
    alpha: int | None = None
    kind: Alpha = "none"
    for channel, (meaning, color) in meanings.items():
        if meaning == _COLOR and 1 <= color <= colors:
            order[color - 1] = channel
        elif meaning in (_ALPHA, _PREMULTIPLIED) and color in _WHOLE:
            alpha, kind = channel, "straight" if meaning == _ALPHA else "premultiplied"
    used = {*order, *([] if alpha is None else [alpha])}
    if used != set(range(count)):
        raise ImageError(f"a JPEG 2000 of {count} channels, not {colors} colours and transparency; {ADVICE}")
    return order, alpha, kind


def _color_tag(file: _Jp2) -> ColorTag:
    if file.profile is not None:
        return ColorTag(profile=file.profile)
    return UNTAGGED if file.space is None else ColorTag(srgb=True)


def _with_plain_boxes(data: bytes, header: ImageHeader, channels: _Channels) -> bytes:
    """Return a file of the same codestream from which a decoder makes nothing but components."""
    start, end = channels.stream
    count = len(channels.depths)
    size = struct.pack(">IIHBBBB", header.height, header.width, count, header.depth - 1, 7, 0, 0)
    color = struct.pack(">BBBI", _ENUMERATED, 0, 0, _GRAY if count == 1 else _SRGB)
    parts = [_SIGNATURE, _box(b"ftyp", b"jp2 \0\0\0\0jp2 "), _box(b"jp2h", _box(b"ihdr", size) + _box(b"colr", color))]
    return b"".join([*parts, _box(b"jp2c", data[start:end])])


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
