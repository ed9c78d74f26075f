"""Read JPEG XL (ISO/IEC 18181-1), bare and in boxes (18181-2), by libjxl in imagecodecs (extra ``jxl``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import STORED, Conversion
from iqa_runtime.color.spaces import CICP_LINEAR, CICP_SRGB
from iqa_runtime.color.tags import ColorTag
from iqa_runtime.errors import ImageError, one_line
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.images.isobmff import read_boxes
from iqa_runtime.images.jpegxl_frames import holds_several
from iqa_runtime.images.jpegxl_header import CODESTREAM, CodestreamHeader, read_codestream_header
from iqa_runtime.images.pixels import WHITE, in_bands, over_white, spread
from iqa_runtime.kernels.color_numpy import srgb_encoded

_LEAST_LIBJXL = (0, 11, 2)  # older ones read and write beside their memory
_LAST = 1 << 31  # of the number of a part of a codestream
_BYTES_PER_PIXEL = 16  # of four floats, which a decoder holds
_OVERSHOOT = 0.5  # beyond 0 to 1, of floats coded with loss: up to 0.32 at distances of 0.1 to 15


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """What the decoder is given, and the header of it."""

    stream: bytes
    header: CodestreamHeader

    @property
    def is_linear(self) -> bool:
        """Whether samples are of light itself, and finer than 8 bits, in which dark ones would all be alike."""
        return self.header.space.transfer == CICP_LINEAR and self.header.depth > 8


def inspect_jpegxl(data: bytes) -> ImageHeader:
    """Read the header of the codestream, and walk its frames; what follows it is ignored.

    Frames may be stored out of order; that these are all there, only the decoder finds out.
    """
    stream = data if data.startswith(CODESTREAM) else _codestream_of(data)
    header = read_codestream_header(stream)
    parsed = _Parsed(stream=stream, header=header)
    space = replace(header.space, transfer=CICP_SRGB) if parsed.is_linear else header.space
    if parsed.is_linear and header.alpha == "premultiplied":
        raise ImageError(f"a JPEG XL of linear colours multiplied by their transparency, which is not read; {ADVICE}")
    return ImageHeader(
        format="JPEG XL",
        width=header.width,
        height=header.height,
        orientation=header.orientation,
        depth=header.depth,
        alpha=header.alpha,
        channels="gray" if header.is_gray else "RGB",
        color=ColorTag(space=space),
        several="an animated JPEG XL" if holds_several(stream, header) else None,
        parsed=parsed,
    )


def decode_jpegxl(_data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_jpegxl` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If imagecodecs is missing or brings an old libjxl, or cannot decode it.
    """
    parsed: _Parsed = header.parsed
    stored = _decode(parsed)
    is_linear = parsed.is_linear and conversion is not STORED

    def make(band: slice) -> NDArray[np.uint8]:
        samples = stored[band]
        colors = 1 if parsed.header.is_gray else 3
        color = _to_8_bits(samples[..., :colors], parsed.header, is_linear=is_linear)
        if header.alpha == "none":
            return conversion.apply(color)
        alpha = _to_8_bits(samples[..., colors], parsed.header, is_linear=False)
        if header.alpha == "premultiplied":
            return conversion.apply(over_white(color, alpha, premultiplied=True))
        return over_white(conversion.apply(color), alpha, premultiplied=False)

    return in_bands(make, header.height, header.width)


def _decode(parsed: _Parsed) -> NDArray[Any]:
    """Return the first picture, H x W x channels, as it is stored: not turned."""
    header = parsed.header
    codecs = _imagecodecs()
    stored: NDArray[Any]
    try:
        stored = codecs.jpegxl_decode(parsed.stream, index=0, keeporientation=True, numthreads=1)
    except (RuntimeError, ValueError) as error:
        # Lack of memory looks like damage: ask for as much as it may have wanted.
        np.empty((header.height, header.width, _BYTES_PER_PIXEL), np.uint8)
        raise ImageError(f"truncated or corrupt JPEG XL ({one_line(error)}); {DAMAGED}") from error
    channels = (1 if header.is_gray else 3) + (header.alpha != "none")
    if stored.ndim == 2:
        stored = stored[..., None]
    if stored.shape != (header.height, header.width, channels):
        raise ImageError(f"corrupt JPEG XL: its pixels cannot be decoded; {DAMAGED}")
    return stored


def _to_8_bits(samples: NDArray[Any], header: CodestreamHeader, *, is_linear: bool) -> NDArray[np.uint8]:
    """Keep the upper 8 of more bits, spread fewer over 0 to 255; light gets the curve of sRGB first."""
    if header.is_float:
        beyond = _OVERSHOOT if header.is_xyb else 0
        if not ((samples >= -beyond) & (samples <= 1 + beyond)).all():
            raise ImageError(
                "a JPEG XL of floating-point samples outside 0 to 1; scale it, or save it with 8 or 16 bits"
            )
        values = samples.astype(np.float64).clip(0, 1)
        return np.rint(WHITE * (srgb_encoded(values) if is_linear else values)).astype(np.uint8)
    most = (1 << header.depth) - 1
    if is_linear:
        values_of: NDArray[np.uint8] = np.rint(WHITE * srgb_encoded(np.arange(most + 1) / most)).astype(np.uint8)
        return np.asarray(values_of[samples])
    if header.depth >= 8:
        upper: NDArray[np.uint8] = (samples >> header.depth - 8).astype(np.uint8, copy=False)
        return upper
    return spread(samples, most)


def _codestream_of(data: bytes) -> bytes:
    """Return what a file in boxes holds: one codestream, whole or in parts."""
    parts: list[bytes] = []
    position = 0
    while True:
        # One by one: what follows the codestream need not be boxes.
        box = next(read_boxes(data, position, len(data)), None)
        if box is None:
            raise ImageError(f"truncated JPEG XL: the file ends after {len(data)} bytes without an image; {DAMAGED}")
        if box.kind == b"jxlc" and not parts:
            return data[box.start : box.end]
        if box.kind in (b"jxlc", b"jxlp"):
            content = data[box.start : box.end]
            number = int.from_bytes(content[:4])
            if box.kind == b"jxlc" or len(content) < 4 or number & _LAST - 1 != len(parts):
                raise ImageError(f"corrupt JPEG XL: part {len(parts)} of its codestream is missing; {DAMAGED}")
            parts.append(content[4:])
            if number & _LAST:
                return b"".join(parts)
        position = box.end


def _imagecodecs() -> Any:
    """Return imagecodecs, with a libjxl that may be given files of strangers."""
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError(
            f'a JPEG XL image, which needs imagecodecs ({error}): pip install "iqa-deploy[jxl]"'
        ) from error
    if not imagecodecs.JPEGXL.available:
        raise ImageError(
            "a JPEG XL image, and this imagecodecs was built without it: pip install --force-reinstall "
            '"iqa-deploy[jxl]"'
        )
    found = imagecodecs.jpegxl_version()
    if tuple(int(number) for number in re.findall(r"\d+", found)[:3]) < _LEAST_LIBJXL:
        least = ".".join(map(str, _LEAST_LIBJXL))
        raise ImageError(
            f"a JPEG XL image, and imagecodecs brings {found}: before {least} a file could reach memory that "
            'is not its own; pip install --upgrade "iqa-deploy[jxl]"'
        )
    return imagecodecs
