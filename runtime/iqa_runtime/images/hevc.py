"""Read the sizes that HEVC parameter sets say (ITU-T H.265, 7.3.2.2; ISO/IEC 14496-15:2022, 8.3.2)."""

from __future__ import annotations

from collections.abc import Iterator

from iqa_runtime.errors import ImageError
from iqa_runtime.images.bits import Bits
from iqa_runtime.images.header import DAMAGED

_SEQUENCE_PARAMETERS = 33
_ARRAYS = 22  # where they begin in a configuration record
_PROFILE, _LEVEL = 88, 8  # bits
_MOST_BYTES = 128  # of a parameter set up to its sizes
_ENDS_EARLY = "HEVC data: parameter sets that end early"


def _corrupt() -> ImageError:
    return ImageError(f"corrupt {_ENDS_EARLY}; {DAMAGED}")


def coded_sizes(configuration: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of every sequence parameter set.

    Parameters
    ----------
    configuration
        The ``hvcC`` property.
    data
        Of the item.

    Raises
    ------
    ImageError
        If a parameter set ends early, or the data is no whole number of units.
    """
    seen: set[bytes] = set()
    for unit in (*_configured(configuration), *_units(data, (configuration[21] & 3) + 1)):
        if len(unit) > 2 and unit[0] >> 1 & 63 == _SEQUENCE_PARAMETERS and unit not in seen:
            seen.add(unit)
            yield _parse(Bits(unit[2:_MOST_BYTES].replace(b"\0\0\3", b"\0\0"), _ENDS_EARLY))


def _configured(configuration: bytes) -> Iterator[bytes]:
    if len(configuration) <= _ARRAYS:
        raise _corrupt()
    position = _ARRAYS + 1
    for _ in range(configuration[_ARRAYS]):
        count = int.from_bytes(configuration[position + 1 : position + 3])
        position += 3
        for _ in range(count):
            size = int.from_bytes(configuration[position : position + 2])
            position += 2 + size
            if not size or position > len(configuration):
                raise _corrupt()
            yield configuration[position - size : position]


def _units(data: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield the beginnings of the units of an item."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + size_bytes])
        position += size_bytes
        if position + size > len(data):
            raise ImageError(f"truncated or corrupt HEVC data: {position + size} of {len(data)} bytes; {DAMAGED}")
        yield data[position : position + min(size, _MOST_BYTES)]
        position += size


def _exp_golomb(bits: Bits) -> int:
    """Read an Exp-Golomb code (9.2)."""
    zeros = bits.take_zeros()
    return (1 << zeros) - 1 + bits.take(zeros)


def _parse(bits: Bits) -> tuple[int, int]:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + _PROFILE + _LEVEL)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for has_profile, has_level in present:
        bits.take(_PROFILE * has_profile + _LEVEL * has_level)
    _exp_golomb(bits)
    if _exp_golomb(bits) == 3:  # chroma format
        bits.take(1)
    return _exp_golomb(bits), _exp_golomb(bits)
