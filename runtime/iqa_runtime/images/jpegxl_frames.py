"""Walk the frames of a JPEG XL codestream (ISO/IEC 18181-1:2024, F) and bound the work that they ask for.

A picture can be made of any number of frames, of any size: layers, patches that others take parts from, smaller
versions of itself. A decoder makes them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED
from iqa_runtime.images.jpegxl_header import CodestreamHeader, Fields

_REGULAR, _LOW_FREQUENCY, _REFERENCE, _PROGRESSIVE = range(4)  # kinds of frames
_USES_LOW_FREQUENCY = 32  # of another frame
_REPLACE, _BLEND, _MULTIPLY_ADD, _MULTIPLY = 0, 2, 3, 4  # ways to lay a frame over others
_HORIZONTAL, _VERTICAL = (0, 1, 1, 0), (0, 1, 0, 1)  # by how many powers of two JPEG data is sampled less, by code
_POWERS = ((1, 0), (2, 0), (4, 0), (8, 0))
_PLACE = ((0, 8), (256, 11), (2304, 14), (18688, 30))
_SECTION = ((0, 10), (1024, 14), (17408, 22), (4211712, 30))
_MOST_FRAMES = 1024
_MOST_SECTIONS = 1 << 20  # that are added up: 17 thousand million pixels in the smallest
_LAYERS, _PIXELS = 4, 1 << 24  # that frames may have together: so many times the picture's, or this


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A frame: whether it is shown, for how long, and where it ends if its table of contents says so."""

    width: int
    height: int
    is_shown: bool
    is_last: bool
    duration: int
    end: int | None


def holds_several(data: bytes, header: CodestreamHeader) -> bool:
    """Walk the frames that the first picture is made of, up to the last of them, and tell whether others follow.

    Parameters
    ----------
    data
        The codestream.
    header
        Of it.

    Raises
    ------
    ImageError
        If it is truncated or corrupt, or they are more than a picture explains.
    """
    position, pixels, canvas = header.end, 0, header.width * header.height
    for _ in range(_MOST_FRAMES):
        frame = _read_frame(data, position, header)
        # What is laid on a canvas takes as long as the canvas.
        pixels += max(frame.width * frame.height, canvas if frame.is_shown else 0)
        if pixels > max(_LAYERS * canvas, _PIXELS):
            break
        if frame.is_shown and (frame.is_last or frame.duration):
            return not frame.is_last
        if frame.end is None:
            raise ImageError(f"a JPEG XL of several layers whose parts are not in order, which is not read; {ADVICE}")
        position = frame.end
    raise ImageError(f"a JPEG XL of more layers than are decoded; {ADVICE}")


def _read_frame(data: bytes, position: int, header: CodestreamHeader) -> _Frame:
    fields = Fields(data, position, "JPEG XL: it ends inside the header of a frame")
    width, height = header.width, header.height
    is_shown, is_last, duration, group, passes, upsampling = True, True, 0, 256, 1, 1
    sampling = (0, 0)
    if not fields.take(1):
        kind, is_modular, flags = fields.take(2), bool(fields.take(1)), fields.u64()
        is_ycbcr = not header.is_xyb and fields.take(1)
        if not flags & _USES_LOW_FREQUENCY:
            if is_ycbcr:
                codes = [fields.take(2) for _ in range(3)]
                sampling = max(_HORIZONTAL[code] for code in codes), max(_VERTICAL[code] for code in codes)
            upsampling = fields.u32(*_POWERS)
            if header.alpha != "none":
                fields.u32(*_POWERS)
        if is_modular:
            group = 128 << fields.take(2)
        elif header.is_xyb:
            fields.skip(3 + 3)  # scales of quantisation
        if kind != _REFERENCE:
            passes = _read_passes(fields)
        is_partial = False
        if kind == _LOW_FREQUENCY:
            level = fields.u32((1, 0), (2, 0), (3, 0), (4, 0))
            width, height = (-(-side // 8**level) for side in (width, height))
        elif fields.take(1):
            left, top = (fields.signed(*_PLACE) if kind != _REFERENCE else 0 for _ in range(2))
            width, height = fields.u32(*_PLACE), fields.u32(*_PLACE)
            is_partial = left > 0 or top > 0 or left + width < header.width or top + height < header.height
        is_shown, replaces, is_last = kind in (_REGULAR, _PROGRESSIVE), True, False
        if is_shown:
            has_alpha = header.alpha != "none"
            replaces = _pass_blending(fields, has_alpha, is_partial) == _REPLACE
            if has_alpha:
                _pass_blending(fields, has_alpha, is_partial)
            if header.is_animated:
                duration = fields.u32((0, 0), (1, 0), (0, 8), (0, 32))
                fields.skip(32 * header.has_timecodes)
            is_last = bool(fields.take(1))
        if kind != _LOW_FREQUENCY and not is_last:
            slot = fields.take(2)
            can_be_referenced = not duration or slot
            if kind == _REFERENCE or (replaces and not is_partial and can_be_referenced):
                fields.skip(1)  # whether before or after its colours are made
        fields.pass_name()
        _pass_filters(fields, is_modular=is_modular)
        fields.pass_extensions()
    if not width or not height:
        raise ImageError(f"corrupt JPEG XL: a frame of {width} x {height} pixels; {DAMAGED}")
    across, down = -(-width // upsampling), -(-height // upsampling)
    groups = -(-across // group) * -(-down // group)
    blocks_across, blocks_down = (
        -(-side // (8 << power)) << power for side, power in zip((across, down), sampling, strict=True)
    )
    coarse = -(-blocks_across // group) * -(-blocks_down // group)
    sections = 1 if groups == passes == 1 else 2 + coarse + groups * passes
    return _Frame(
        width=width,
        height=height,
        is_shown=is_shown,
        is_last=is_last,
        duration=duration,
        end=_end_of(data, fields, sections),
    )


def _read_passes(fields: Fields) -> int:
    count = fields.u32((1, 0), (2, 0), (3, 0), (4, 3))
    if count > 1:
        downsamplings = fields.u32((0, 0), (1, 0), (2, 0), (3, 1))
        fields.skip(2 * (count - 1) + 2 * downsamplings)
        for _ in range(downsamplings):
            fields.u32((0, 0), (1, 0), (2, 0), (0, 3))
    return count


def _pass_blending(fields: Fields, has_alpha: bool, is_partial: bool) -> int:
    """Return how colours, or transparency, are laid over what is there."""
    mode = fields.u32((0, 0), (1, 0), (2, 0), (3, 2))
    by_alpha = has_alpha and mode in (_BLEND, _MULTIPLY_ADD)
    if by_alpha:
        fields.u32((0, 0), (1, 0), (2, 0), (3, 3))
    if by_alpha or mode == _MULTIPLY:
        fields.skip(1)
    if mode != _REPLACE or is_partial:
        fields.skip(2)
    return mode


def _pass_filters(fields: Fields, *, is_modular: bool) -> None:
    if fields.take(1):
        return
    if fields.take(1) and fields.take(1):
        fields.skip(16 * 6)  # weights of smoothing
    if fields.take(2):  # rounds of edge-preserving smoothing
        if not is_modular and fields.take(1):
            fields.skip(16 * 8)
        if fields.take(1):
            fields.skip(16 * 5)
        if fields.take(1):
            fields.skip(16 * (3 if is_modular else 4))
        if is_modular:
            fields.skip(16)
    fields.pass_extensions()


def _end_of(data: bytes, fields: Fields, sections: int) -> int | None:
    """Return where a frame ends; None if its sections are not in order, or are no end of them: a decoder finds out."""
    if fields.take(1) or sections > _MOST_SECTIONS:
        return None
    fields.next_byte()
    sizes = sum(fields.u32(*_SECTION) for _ in range(sections))
    end = fields.next_byte() + sizes
    if end > len(data):
        raise ImageError(f"truncated JPEG XL: a frame should end at byte {end} of {len(data)}; {DAMAGED}")
    return end
