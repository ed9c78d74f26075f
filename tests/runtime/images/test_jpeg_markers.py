"""The quantisation table of a JPEG's luminance, among others, wide ones and damaged ones."""

from __future__ import annotations

import struct

import pytest

from iqa_runtime.images.jpeg_markers import DQT, SOS, JpegFile, Segment, first_table

STEPS = tuple(range(1, 65))
OTHER = tuple(range(65, 1, -1))
NARROW = bytes((0, *STEPS))
WIDE = bytes((0x10,)) + struct.pack(">64H", *(300 + step for step in STEPS))
SCAN = Segment(SOS, b"", components=(0,))


def frame(selector: int) -> Segment:
    return Segment(0xC0, bytes((8, 0, 9, 0, 9, 3, 1, 0x22, selector, 2, 0x11, 1, 3, 0x11, 1)))


def table(number: int, steps: tuple[int, ...]) -> bytes:
    return bytes((number, *steps))


@pytest.mark.parametrize(
    ("segments", "found"),
    [
        ([Segment(DQT, NARROW), frame(0), SCAN], STEPS),
        ([frame(0), Segment(DQT, NARROW), SCAN], STEPS),
        ([Segment(DQT, table(1, OTHER) + NARROW), frame(0), SCAN], STEPS),
        ([Segment(DQT, table(1, OTHER) + NARROW), frame(1), SCAN], OTHER),
        ([Segment(DQT, table(0, OTHER)), Segment(DQT, NARROW), frame(0), SCAN], STEPS),
        ([Segment(DQT, NARROW), frame(0), SCAN, Segment(DQT, table(0, OTHER))], STEPS),
        ([Segment(DQT, WIDE), frame(0), SCAN], tuple(300 + step for step in STEPS)),
        ([Segment(DQT, NARROW), frame(2), SCAN], None),
        ([Segment(DQT, NARROW[:-1]), frame(0), SCAN], None),
        ([Segment(DQT, b""), frame(0), SCAN], None),
        ([Segment(DQT, NARROW), Segment(0xC0, b"\x08\x00\x09\x00\x09\x01\x01\x11"), SCAN], None),
        ([], None),
    ],
)
def test_the_table_of_the_first_component(segments: list[Segment], found: tuple[int, ...] | None) -> None:
    assert first_table(JpegFile(segments=segments)) == found
