"""Read the header of a JPEG XL codestream (ISO/IEC 18181-1:2024, B.2, D and E): size, samples, colours.

What a decoder library gives of a file are pixels alone, and only after it has made them.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.color.spaces import CICP_LINEAR, CICP_SRGB, CICP_UNSPECIFIED, HDR_CURVES, chromaticities_of
from iqa_runtime.color.tags import RgbSpace
from iqa_runtime.errors import ImageError
from iqa_runtime.images.bits import LowBits
from iqa_runtime.images.header import ADVICE, DAMAGED, Alpha

CODESTREAM = b"\xff\x0a"
"""What one begins with."""

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
_NAME = ((0, 0), (0, 4), (16, 5), (48, 10))
_RGB, _GRAY = 0, 1  # colour spaces
_CUSTOM, _D65 = 2, 1  # code points of white and primaries; all others are those of ITU-T H.273
_PRIMARIES, _WHITES = (1, 9, 11), (1, 10, 11)
_REC_709 = 1
_TRANSFERS = (1, CICP_LINEAR, CICP_SRGB, *HDR_CURVES)
_DCI, _DCI_EXPONENT = 17, 1 / 2.6
_GAMMA_UNIT, _XY_UNIT = 1e-7, 1e-6
_ALPHA = 0  # of extra channels
_FLOATS = ((32, 8), (16, 5))  # bits, and those of the exponent
_MOST_BITS = 16  # of whole numbers
_OPSIN_NUMBERS, _WEIGHTS = 16, (15, 55, 210)  # that may be given instead of the usual ones

_SRGB = RgbSpace(white=chromaticities_of(_REC_709)[0], primaries=chromaticities_of(_REC_709)[1], transfer=CICP_SRGB)


class Fields(LowBits):
    """The kinds of numbers that headers are made of."""

    def u32(self, *choices: tuple[int, int]) -> int:
        """Read one of four kinds of numbers: each has a least value, and bits that are added to it."""
        least, bits = choices[self.take(2)]
        return least + self.take(bits)

    def u64(self) -> int:
        """Read a number of up to 64 bits."""
        kind = self.take(2)
        if kind < 3:
            least, bits = ((0, 0), (1, 4), (17, 8))[kind]
            return least + self.take(bits)
        value, shift = self.take(12), 12
        while shift < 64 and self.take(1):
            bits = min(64 - shift, 8)
            value |= self.take(bits) << shift
            shift += bits
        return value

    def code_point(self) -> int:
        """Read an enumerated value."""
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))

    def signed(self, *choices: tuple[int, int]) -> int:
        """Read a number whose lowest bit is its sign."""
        packed = self.u32(*choices)
        return -(packed + 1 >> 1) if packed & 1 else packed >> 1

    def pass_name(self) -> None:
        """Pass over a text."""
        self.skip(8 * self.u32(*_NAME))

    def pass_extensions(self) -> None:
        """Pass over what later editions may have added."""
        present = self.u64()
        self.skip(sum(self.u64() for _ in range(present.bit_count())))


@dataclass(frozen=True, slots=True, kw_only=True)
class CodestreamHeader:
    """What it says.

    Attributes
    ----------
    width, height
        In pixels, before the picture is turned.
    orientation
        EXIF's.
    depth
        Bits of a sample.
    is_float
        Whether samples are floats.
    is_gray
        Whether there is one channel of colour.
    alpha
        Whether there is transparency, and whether colours are multiplied by it.
    is_xyb
        Whether it is coded with loss in XYB, from which decoders make samples of `space`.
    space
        What samples mean.
    is_animated, has_timecodes
        Whether frames have a duration, and a time.
    end
        The byte that the first frame begins at.
    """

    width: int
    height: int
    orientation: int
    depth: int
    is_float: bool
    is_gray: bool
    alpha: Alpha
    is_xyb: bool
    space: RgbSpace
    is_animated: bool
    has_timecodes: bool
    end: int


def read_codestream_header(data: bytes) -> CodestreamHeader:
    """Read the header of a codestream.

    Raises
    ------
    ImageError
        If it ends early, or is of a kind that is not read.
    """
    fields = Fields(data, len(CODESTREAM), "JPEG XL: its header ends early")
    if not data.startswith(CODESTREAM):
        raise ImageError(f"corrupt JPEG XL: its codestream does not begin as one; {DAMAGED}")
    width, height = _read_size(fields)
    orientation, is_animated, has_timecodes = 1, False, False
    depth, is_float, is_xyb, is_gray, space = 8, False, True, False, _SRGB
    alpha: Alpha = "none"
    if not fields.take(1):
        has_more = fields.take(1)
        if has_more:
            orientation = fields.take(3) + 1
            if fields.take(1):
                _read_size(fields)  # at which it is meant to be shown
            if fields.take(1):
                raise ImageError(f"a JPEG XL with a preview, which is not read; {ADVICE}")
            is_animated = bool(fields.take(1))
            has_timecodes = is_animated and _read_animation(fields)
        depth, is_float = _read_depth(fields)
        fields.skip(1)  # whether buffers of 16 bits are enough
        alpha = _read_extra_channels(fields)
        is_xyb = bool(fields.take(1))
        is_gray, space = _read_space(fields)
        if has_more and not fields.take(1):
            fields.skip(16 + 16 + 1 + 16)  # of how bright it is meant to be shown
        fields.pass_extensions()
    if not fields.take(1):
        _pass_transform(fields, is_xyb=is_xyb)
    return CodestreamHeader(
        width=width,
        height=height,
        orientation=orientation,
        depth=depth,
        is_float=is_float,
        is_gray=is_gray,
        alpha=alpha,
        is_xyb=is_xyb,
        space=space,
        is_animated=is_animated,
        has_timecodes=has_timecodes,
        end=fields.next_byte(),
    )


def _read_size(fields: Fields) -> tuple[int, int]:
    is_small = fields.take(1)

    def side() -> int:
        return 8 * (fields.take(5) + 1) if is_small else fields.u32(*_SIDE)

    height = side()
    ratio = fields.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _read_animation(fields: Fields) -> bool:
    """Pass over how quick it is, and how often it is repeated; return whether frames have a time."""
    fields.u32((100, 0), (1000, 0), (1, 10), (1, 30))
    fields.u32((1, 0), (1001, 0), (1, 8), (1, 10))
    fields.u32((0, 0), (0, 3), (0, 16), (0, 32))
    return bool(fields.take(1))


def _read_depth(fields: Fields) -> tuple[int, bool]:
    is_float = bool(fields.take(1))
    if is_float:
        bits = fields.u32((32, 0), (16, 0), (24, 0), (1, 6))
        exponent = fields.take(4) + 1
        if (bits, exponent) not in _FLOATS:
            raise ImageError(f"a JPEG XL of floats of {bits} bits, {exponent} of them exponents; {ADVICE}")
    else:
        bits = fields.u32((8, 0), (10, 0), (12, 0), (1, 6))
        if bits > _MOST_BITS:
            raise ImageError(f"a JPEG XL of {bits} bits; save it with 8 or 16")
    return bits, is_float


def _read_extra_channels(fields: Fields) -> Alpha:
    count = fields.u32((0, 0), (1, 0), (2, 4), (1, 12))
    if not count:
        return "none"
    kind, is_premultiplied = _ALPHA, 0
    if not fields.take(1):
        kind = fields.code_point()
        _read_depth(fields)
        fields.u32((0, 0), (3, 0), (4, 0), (1, 3))  # by how much smaller it is
        fields.pass_name()
        is_premultiplied = fields.take(1) if kind == _ALPHA else 0
    if count > 1 or kind != _ALPHA:
        raise ImageError(f"a JPEG XL of channels beyond colours and transparency, which is not read; {ADVICE}")
    return "premultiplied" if is_premultiplied else "straight"


def _read_space(fields: Fields) -> tuple[bool, RgbSpace]:
    """Return whether it is gray, and what samples mean."""
    if fields.take(1):
        return False, _SRGB
    has_profile, kind = fields.take(1), fields.code_point()
    if has_profile:
        raise ImageError(
            "a JPEG XL with an ICC profile in its coded data, which is not read; make a PNG of it with djxl, "
            "which keeps the profile"
        )
    if kind not in (_RGB, _GRAY):
        raise ImageError(f"a JPEG XL of colours that are neither RGB nor gray; {ADVICE}")
    is_gray = kind == _GRAY
    white_code = fields.code_point()
    white = _read_xy(fields) if white_code == _CUSTOM else (0.0, 0.0)
    primaries_code = _REC_709 if is_gray else fields.code_point()
    primaries = tuple(value for _ in range(3) for value in _read_xy(fields)) if primaries_code == _CUSTOM else ()
    if white_code not in (*_WHITES, _CUSTOM) or primaries_code not in (*_PRIMARIES, _CUSTOM):
        raise ImageError(f"corrupt JPEG XL: colours of code points {white_code}, {primaries_code}; {DAMAGED}")
    # A decoder makes gray of XYB for one white alone; for gray it means nothing but that.
    if is_gray and white_code != _D65:
        raise ImageError(f"a JPEG XL of gray that is not for D65; {ADVICE}")
    exponent, transfer = None, CICP_UNSPECIFIED
    if fields.take(1):
        exponent = fields.take(24) * _GAMMA_UNIT
    else:
        transfer = fields.code_point()
        if transfer == _DCI:
            exponent, transfer = _DCI_EXPONENT, CICP_UNSPECIFIED
        elif transfer not in _TRANSFERS:
            raise ImageError(f"corrupt JPEG XL: a transfer of code point {transfer}; {DAMAGED}")
    if exponent is not None and not 0 < exponent <= 1:
        raise ImageError(f"corrupt JPEG XL: an exponent of {exponent:g}; {DAMAGED}")
    fields.code_point()  # rendering intent
    return is_gray, RgbSpace(
        white=white if white_code == _CUSTOM else chromaticities_of(white_code)[0],
        primaries=primaries if primaries_code == _CUSTOM else chromaticities_of(primaries_code)[1],
        transfer=transfer,
        exponent=exponent,
    )


def _read_xy(fields: Fields) -> tuple[float, float]:
    x, y = (fields.signed((0, 19), (1 << 19, 19), (1 << 20, 20), (1 << 21, 21)) * _XY_UNIT for _ in range(2))
    return x, y


def _pass_transform(fields: Fields, *, is_xyb: bool) -> None:
    """Pass over numbers of a decoder's own."""
    if is_xyb and not fields.take(1):
        fields.skip(16 * _OPSIN_NUMBERS)
    given = fields.take(3)
    for place, count in enumerate(_WEIGHTS):
        if given >> place & 1:
            fields.skip(16 * count)
