"""A decoded frame becomes upright 8-bit RGB.

libswscale only brings chroma to the size of luma. Its own RGB is up to three levels off without accurate rounding, and
with it colours beyond white come out black.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.pixels import bands, upright
from iqa_runtime.video.color import Reading

if TYPE_CHECKING:
    from av import VideoFrame

_ORIENTATIONS = {  # EXIF's, by the signs of a display matrix: a, b, c, d of x' = a x + c y, y' = b x + d y
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def to_rgb(frame: VideoFrame, reading: Reading) -> NDArray[np.uint8]:
    """Turn a frame that `reading_of` has accepted into uint8 H x W x 3 RGB, upright.

    Rounded to nearest and clipped; chroma is interpolated linearly.

    Raises
    ------
    ImageError
        If it is to be turned by anything but quarter turns.
    """
    depth = frame.format.components[0].bits
    planes = _planes(_full_chroma(frame, depth))
    height, width = planes[0].shape
    pixels = np.empty((height, width, 3), np.uint8)
    for band in bands(height, width):
        _fill(pixels[band], [plane[band] for plane in planes], reading, depth)
    return upright(reading.conversion.apply(pixels), _orientation_of(frame))


def _full_chroma(frame: VideoFrame, depth: int) -> VideoFrame:
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    layout = frame.format.name
    if layout.startswith("gray"):
        return frame
    family = "gbrp" if frame.format.is_rgb else "yuv444p"
    # Range and matrix are named the same on both sides, so that nothing but the layout changes.
    same = ColorRange.JPEG if layout.startswith("yuvj") or frame.format.is_rgb else ColorRange.MPEG
    return frame.reformat(
        format=family if depth == 8 else f"{family}{depth}le",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=same,
        dst_color_range=same,
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        threads=1,
    )


def _planes(frame: VideoFrame) -> list[NDArray[Any]]:
    """Return the planes as arrays of height x width; red, green and blue where they are these."""
    dtype = np.dtype("u1" if frame.format.components[0].bits == 8 else "<u2")
    planes: list[NDArray[Any]] = []
    for plane in frame.planes:
        samples = np.frombuffer(memoryview(plane), dtype)
        row = plane.line_size // samples.itemsize
        planes.append(samples[: row * plane.height].reshape(plane.height, row)[:, : plane.width])
    return [planes[2], planes[0], planes[1]] if frame.format.is_rgb else planes


def _fill(out: NDArray[np.uint8], planes: list[NDArray[Any]], reading: Reading, depth: int) -> None:
    """Compute R'G'B' (H.273, 8.3, solved for it) in float32: one rounding, to 8 bits.

    In a narrow range black is 16, white 235, and chroma 112 to either side of 128, of more than 8 bits multiples of
    these; in the full one all numbers count.
    """
    unit = 1 << depth - 8
    black, luma_span, chroma_span = (0, (1 << depth) - 1, (1 << depth) - 1)
    if not reading.full_range:
        black, luma_span, chroma_span = 16 * unit, 219 * unit, 224 * unit
    luma_scale = np.float32(255 / luma_span)
    if reading.weights is None:
        for channel, plane in enumerate(planes):
            _round((plane.astype(np.float32) - np.float32(black)) * luma_scale, out[..., channel])
        return
    luma = (planes[0].astype(np.float32) - np.float32(black)) * luma_scale
    if len(planes) == 1:
        _round(luma, out[..., 0])
        out[..., 1:] = out[..., :1]
        return
    red, blue = reading.weights
    green = 1 - red - blue
    chroma_scale = 255 / chroma_span
    cb, cr = (plane.astype(np.float32) - np.float32(128 * unit) for plane in planes[1:])
    _round(luma + np.float32(2 * (1 - red) * chroma_scale) * cr, out[..., 0])
    _round(
        luma
        - np.float32(2 * blue * (1 - blue) / green * chroma_scale) * cb
        - np.float32(2 * red * (1 - red) / green * chroma_scale) * cr,
        out[..., 1],
    )
    _round(luma + np.float32(2 * (1 - blue) * chroma_scale) * cb, out[..., 2])


def _round(values: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    out[...] = np.rint(values.clip(0, 255))


def _orientation_of(frame: VideoFrame) -> int:
    from av.sidedata.sidedata import Type

    side_data: Any = frame.side_data  # keys are types, whatever the stubs say
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    signs = tuple((number > 0) - (number < 0) for number in (a, b, c, d))
    if signs not in _ORIENTATIONS:
        raise ImageError(
            f"a video that is shown turned by {frame.rotation} degrees; only quarter turns are read: turn it, and "
            "code it again"
        )
    return _ORIENTATIONS[signs]
