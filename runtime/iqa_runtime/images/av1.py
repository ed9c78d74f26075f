"""Read the sequence headers of AV1 data (AV1 Bitstream & Decoding Process Specification, 2019, 5.3 and 5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from iqa_runtime.color.spaces import CICP_UNSPECIFIED
from iqa_runtime.errors import ImageError
from iqa_runtime.images.bits import Bits
from iqa_runtime.images.header import DAMAGED

_SEQUENCE_HEADER = 1
_SELECT = 2  # of what each frame says for itself
_MOST_BYTES = 512  # of a sequence header, with 32 operating points


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceHeader:
    """What decides the size of pictures and their samples.

    Attributes
    ----------
    width, height
        Of the largest frame, in pixels.
    depth
        Bits of a sample: 8, 10 or 12.
    monochrome
        Whether there is no chrominance.
    primaries, transfer
        Code points of ITU-T H.273; 2 is unspecified.
    """

    width: int
    height: int
    depth: int
    monochrome: bool
    primaries: int
    transfer: int


def sequence_headers(data: bytes) -> Iterator[SequenceHeader]:
    """Yield every sequence header of the data of an item, equal ones once.

    Raises
    ------
    ImageError
        If the data is no whole number of OBUs, or a header ends early.
    """
    position = 0
    seen: set[bytes] = set()
    while position < len(data):
        head, position = data[position], position + 1
        position += head >> 2 & 1
        if head & 2:
            size, position = _leb128(data, position)
        else:
            size = len(data) - position
        if position + size > len(data):
            raise ImageError(f"truncated or corrupt AV1 data: {position + size} of {len(data)} bytes; {DAMAGED}")
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            header = data[position : position + min(size, _MOST_BYTES)]
            if header not in seen:
                seen.add(header)
                yield _parse(Bits(header, "AV1 data: a sequence header that ends early"))
        position += size


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        if position >= len(data):
            break
        byte, position = data[position], position + 1
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position
    raise ImageError(f"corrupt AV1 data: an OBU without a size; {DAMAGED}")


def _parse(bits: Bits) -> SequenceHeader:
    profile, _, reduced = bits.take(3), bits.take(1), bits.take(1)
    if reduced:
        bits.take(5)
    else:
        _pass_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if not reduced and bits.take(1):
        bits.take(7)  # of frame identifiers
    bits.take(3)  # superblocks, intra tools
    if not reduced:
        _pass_inter_tools(bits)
    bits.take(3)  # superres, CDEF, restoration
    high = bits.take(1)
    depth = (12 if bits.take(1) else 10) if profile == 2 and high else 10 if high else 8
    monochrome = profile != 1 and bool(bits.take(1))
    primaries, transfer = (bits.take(8), bits.take(8)) if bits.take(1) else (CICP_UNSPECIFIED, CICP_UNSPECIFIED)
    return SequenceHeader(
        width=width, height=height, depth=depth, monochrome=monochrome, primaries=primaries, transfer=transfer
    )


def _pass_operating_points(bits: Bits) -> None:
    has_decoder_model, delay_bits = 0, 0
    if bits.take(1):
        bits.take(64)  # timing
        if bits.take(1):
            zeros = bits.take_zeros()
            if zeros < 32:
                bits.take(zeros)
        has_decoder_model = bits.take(1)
        if has_decoder_model:
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)  # tier
        if has_decoder_model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)


def _pass_inter_tools(bits: Bits) -> None:
    bits.take(4)
    has_order_hints = bits.take(1)
    if has_order_hints:
        bits.take(2)
    screen_content = _SELECT if bits.take(1) else bits.take(1)
    if screen_content and not bits.take(1):
        bits.take(1)  # integer motion vectors
    if has_order_hints:
        bits.take(3)
