"""Hostile files: the work and the memory that they cost are bounded by their size and the pixels that they state.

Work is counted in calls, memory in bytes; neither depends on the machine.
"""

import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.loading import load_image

DQT, DHT, SOF, PROGRESSIVE, DRI, SOS = 0xDB, 0xC4, 0xC0, 0xC2, 0xDD, 0xDA
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
ONE_CODE = bytes([1] + [0] * 15)
"""Of a Huffman table: one code, a single zero bit."""
END_OF_BLOCK, RUN_OF_16384 = 0x00, 0xE0
LONGEST_RUN = 32767
RGB, CMYK, YCBCR = 2, 5, 6
NONE, JPEG, DEFLATE = 1, 7, 8


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def table(number: int, symbol: int) -> bytes:
    return segment(DHT, bytes([number]) + ONE_CODE + bytes([symbol]))


QUANTISATION = segment(DQT, b"\0" + b"\1" * 64)
TABLES = QUANTISATION + table(0x00, 0) + table(0x10, END_OF_BLOCK)


def zero_bits(count: int) -> bytes:
    return bytes(count // 8) + (bytes([0xFF >> count % 8]) if count % 8 else b"")


def frame(marker: int, width: int, height: int, factors: list[int]) -> bytes:
    components = b"".join(bytes([index, factor, 0]) for index, factor in enumerate(factors))
    return segment(marker, struct.pack(">BHHB", 8, height, width, len(factors)) + components)


def scan(components: int, first: int = 0, last: int = 63, bits: int = 0) -> bytes:
    return segment(
        SOS, bytes([components, *(value for index in range(components) for value in (index, 0)), first, last, bits])
    )


def flat_jpeg(width: int, height: int, *, tables: bytes = TABLES, interval: int = 0, factor: int = 0x11) -> bytes:
    """Code a gray picture, or one of rarely sampled colours, whose blocks are all zero: two bits each."""
    factors = [0x11] if factor == 0x11 else [factor, 0x11, 0x11]
    across, down = (factor >> 4, factor & 15) if len(factors) > 1 else (1, 1)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    blocks = across * down + len(factors) - 1
    parts = [zero_bits(2 * blocks * min(interval or units, left)) for left in range(units, 0, -(interval or units))]
    coded = b"".join(
        part + (bytes([0xFF, 0xD0 + index % 8]) if index < len(parts) - 1 else b"") for index, part in enumerate(parts)
    )
    restarts = segment(DRI, struct.pack(">H", interval)) if interval else b""
    return SOI + tables + frame(SOF, width, height, factors) + restarts + scan(len(factors)) + coded + EOI


def tiff(tags: dict[int, list[int]], blocks: list[bytes], tables: bytes = b"") -> bytes:
    """Build a TIFF of strips, one behind another."""
    lengths = [len(block) for block in blocks]
    *places, start = accumulate(lengths, initial=8)
    values = tags | {273: places, 279: lengths}
    packed = {tag: (4, struct.pack(f"<{len(numbers)}I", *numbers), len(numbers)) for tag, numbers in values.items()}
    packed |= {347: (7, tables, len(tables))} if tables else {}
    end = start + 2 + 12 * len(packed) + 4
    directory, beyond = struct.pack("<H", len(packed)), b""
    for tag, (kind, data, count) in sorted(packed.items()):
        inline = len(data) <= 4
        directory += struct.pack("<HHI", tag, kind, count)
        directory += data.ljust(4, b"\0") if inline else struct.pack("<I", end + len(beyond))
        beyond += b"" if inline else data
    return b"II\x2a\0" + struct.pack("<I", start) + b"".join(blocks) + directory + bytes(4) + beyond


def page(width: int, height: int, *, bits: list[int], photometric: int = 1, tags: Any = None) -> dict[int, list[int]]:
    return {
        **{256: [width], 257: [height], 258: bits, 259: [DEFLATE], 262: [photometric], 277: [len(bits)]},
        **(tags or {}),
    }


def calls(function: Callable[[], object]) -> int:
    """Count the calls of functions, in Python and of C, that a function makes."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def peak(function: Callable[[], object]) -> int:
    """Return the most bytes that a function holds at once, of Python and NumPy."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestJpeg:
    def test_a_megabyte_of_fill_bytes_is_passed_over_once(self) -> None:
        filling = b"\xff" * 10**6
        with pytest.raises(ImageError, match="without an end marker"):
            load_image(SOI + filling)
        clean = flat_jpeg(64, 64)
        np.testing.assert_array_equal(load_image(SOI + filling + clean[2:]), load_image(clean))

    @pytest.mark.parametrize("filling", [b"\xff" * 10**6 + b"\0", b"\xff" * 10**6])
    def test_fill_bytes_before_a_restart_marker_are_passed_over_once(self, filling: bytes) -> None:
        clean = flat_jpeg(64, 64, interval=1, factor=0x24)
        marker = clean.index(b"\xff\xd2")
        filled = clean[:marker] + filling + clean[marker:]
        np.testing.assert_array_equal(load_image(filled), load_image(clean))

    def test_tables_that_no_scan_needs_are_not_built(self) -> None:
        needed = QUANTISATION + table(0, 0) + table(0x10, END_OF_BLOCK)
        unneeded = b"".join(table(number, 0) for number in range(256) if number not in (0, 0x10))
        bands = b"".join(
            segment(SOS, bytes([1, component, 0, 1, 63, 0])) + zero_bits(8) for component in (0, 1, 2, *[0] * 90)
        )

        def sent(tables: bytes) -> None:
            start = SOI + tables + frame(PROGRESSIVE, 8, 8, [0x24, 0x11, 0x11]) + scan(3, last=0) + bytes(2)
            with suppress(ImageError):  # OpenCV takes no table by such a number
                load_image(start + bands + EOI)

        plain, hostile = calls(lambda: sent(needed)), calls(lambda: sent(needed + unneeded))
        assert hostile - plain < 50 * 254  # some calls for each of them, none for each in each scan

    def test_a_run_of_blocks_is_one_step(self) -> None:
        across, down = 217, 302
        assert across * down == 2 * LONGEST_RUN
        run = f"0{LONGEST_RUN - 16384:014b}" * 2 + "11"
        band = int(run, 2).to_bytes(4).replace(b"\xff", b"\xff\0")
        tables = QUANTISATION + table(0, 0) + table(0x10, RUN_OF_16384)
        data = SOI + tables + frame(PROGRESSIVE, 8 * across, 8 * down, [0x11])
        data += scan(1, last=0, bits=1) + zero_bits(across * down)
        data += scan(1, last=0, bits=0x10) + bytes(-(-across * down // 8))
        data += b"".join(scan(1, place, place, 1) + band + scan(1, place, place, 0x10) + band for place in range(1, 9))
        whole = data + b"".join(scan(1, place, last) + band for place, last in ((9, 9), (10, 20), (21, 63)))
        filled = whole + bytes(40) + EOI
        assert calls(lambda: load_image(filled)) < across * down
        wide = data + scan(1, 9, 63) + band + bytes(40) + EOI
        assert calls(lambda: load_image(wide)) < across * down
        np.testing.assert_array_equal(load_image(filled), load_image(whole + EOI))


class TestTiff:
    def strips(self, count: int, *, tables: bytes, interval: int = 0) -> bytes:
        coded = flat_jpeg(16, 8, tables=b"", interval=interval)
        if interval:
            coded = coded.replace(segment(DRI, struct.pack(">H", interval)), b"")
        tags = page(16, 8 * count, bits=[8], tags={259: [JPEG], 278: [8]})
        return tiff(tags, [coded] * count, SOI + tables + EOI)

    def test_tables_of_all_strips_are_read_once(self) -> None:
        count, more = 200, 20
        plain, hostile = (self.strips(count, tables=TABLES + QUANTISATION * number) for number in (0, more))
        np.testing.assert_array_equal(load_image(hostile), load_image(plain))
        # Written anew for each strip, which takes three calls, but not read.
        assert calls(lambda: load_image(hostile)) - calls(lambda: load_image(plain)) < 4 * count * more

    @pytest.mark.parametrize(
        "tables", [segment(DQT, b"") * 33, QUANTISATION * 33, frame(SOF, 16, 8, [0x11]), QUANTISATION[:9]]
    )
    def test_what_is_more_than_tables_is_refused(self, tables: bytes) -> None:
        with pytest.raises(ImageError, match=r"more than tables|truncated JPEG"):
            load_image(self.strips(2, tables=TABLES + tables))

    def test_a_restart_interval_among_the_tables_counts(self) -> None:
        tables = TABLES + segment(DRI, struct.pack(">H", 1))
        assert load_image(self.strips(3, tables=tables, interval=1)).shape == (24, 16, 3)
        with pytest.raises(ImageError, match="restart markers out of sequence"):
            load_image(self.strips(3, tables=tables))

    @pytest.mark.parametrize("compression", [NONE, DEFLATE, JPEG])
    def test_more_strips_than_pixels_explain_are_refused_undecoded(self, compression: int) -> None:
        count, small, large = 40_000, 31, 256
        for width, refused in ((small, True), (large, False)):
            data = tiff(page(width, count, bits=[8], tags={259: [compression], 278: [1]}), [b"\0"] * count)
            if refused:
                with pytest.raises(ImageError, match="40000 strips or tiles for 31 x 40000 pixels"):
                    inspect_header(data)
            else:
                assert inspect_header(data).height == count

    @pytest.mark.parametrize(("channels", "refused"), [(8, False), (32, True)])
    def test_a_tile_of_many_bytes_is_refused_undecoded(self, channels: int, refused: bool) -> None:
        tags = {322: [2048], 323: [2048], 338: [0] * (channels - 4) + [2], 339: [3] * channels}
        data = tiff(page(1, 1, bits=[64] * channels, photometric=RGB, tags=tags), [zlib.compress(b"")])
        with pytest.raises(ImageError, match="tiles of 2048 x 2048 pixels" if refused else "decode to 0 bytes"):
            load_image(data)

    @pytest.mark.parametrize(
        ("bits", "photometric", "tags"),
        [
            ([64] * 3, RGB, {339: [3, 3, 3]}),
            ([64] * 3, RGB, {339: [3, 3, 3], 317: [3]}),
            ([64] * 3, RGB, {339: [3, 3, 3], 317: [2]}),
            ([16] * 3, RGB, {317: [2]}),
            ([12] * 3, RGB, {}),
            ([10] * 4, RGB, {338: [2]}),
            ([8] * 4, CMYK, {}),
            ([1], 1, {}),
            ([8] * 3, YCBCR, {530: [1, 1]}),
            ([8] * 3, YCBCR, {530: [2, 2]}),
            ([8] * 3, YCBCR, {530: [1, 1], 284: [2]}),
        ],
        ids=str,
    )
    def test_memory_is_that_of_the_stored_samples_and_of_8_bit_ones(
        self, bits: list[int], photometric: int, tags: dict[int, list[int]]
    ) -> None:
        side, band = 1800, 80 << 20  # bytes on the way to 8 bits, of a band
        stored = side * side * sum(bits) // 8
        planes = len(bits) if 284 in tags else 1
        coded = [zlib.compress(bytes(stored // planes))] * planes
        if 530 in tags and tags[530] == [2, 2]:
            coded = [zlib.compress(bytes(side * side * 3 // 2))]
        data = tiff(page(side, side, bits=bits, photometric=photometric, tags=tags), coded)
        samples = side * side * len(bits)
        assert peak(lambda: load_image(data)) < 2 * stored + 2 * samples + 3 * side * side + band
