"""BMP of every depth, header and compression that is accepted: the colours that were stored come back."""

import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.loading import load_image

HEIGHT, WIDTH = 7, 13  # rows of no depth end on a double word
PLAIN, RLE8, RLE4, BITFIELDS, JPEG, ALPHABITFIELDS = 0, 1, 2, 3, 4, 6
HEADERS = (40, 52, 56, 64, 108, 124)


def bmp(
    pixels: bytes,
    bits: int,
    *,
    header: int = 40,
    compression: int = PLAIN,
    masks: tuple[int, ...] = (),
    palette: NDArray[np.uint8] | None = None,
    top_down: bool = False,
    used: int = 0,
    gap: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    offset: int | None = None,
) -> bytes:
    """Build a file by hand; `pixels` are its rows in the order of the file."""
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        tall = -height if top_down else height
        info = struct.pack("<IiiHHIIiiII", header, width, tall, 1, bits, compression, len(pixels), 0, 0, used, 0)
        info += struct.pack(f"<{len(masks)}I", *masks)
        info = info.ljust(header, b"\0")
    if palette is not None:
        entries = palette[:, ::-1] if header == 12 else np.pad(palette[:, ::-1], ((0, 0), (0, 1)))
        info += entries.astype(np.uint8).tobytes()
    info += bytes(gap)
    start = 14 + len(info) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, start) + info + pixels


def packed(rows: NDArray[Any], bits: int) -> bytes:
    """Pack rows of pixel values, each up to a double word."""
    if bits < 8:
        spread = (rows[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
        whole = np.packbits(spread.reshape(len(rows), -1), axis=1)
    else:
        whole = rows.astype({8: "u1", 16: "<u2", 32: "<u4"}[bits]).view(np.uint8).reshape(len(rows), -1)
    return np.pad(whole, ((0, 0), (0, -whole.shape[1] % 4))).tobytes()


def noise(high: int, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, high, shape)


def by_mask(values: NDArray[np.int64], mask: int) -> NDArray[np.int64]:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    most = mask >> shift
    if most > 255:
        return (values & mask) >> (shift + most.bit_length() - 8)
    return np.rint(((values & mask) >> shift) * 255 / max(most, 1)).astype(np.int64)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(("header", "top_down"), [(12, False), *product(HEADERS, (False, True))])  # 12: no sign
def test_palettes(bits: int, header: int, top_down: bool) -> None:
    palette = noise(256, (1 << bits, 3)).astype(np.uint8)
    indices = noise(1 << bits)
    rows = indices if top_down else indices[::-1]
    data = bmp(packed(rows, bits), bits, header=header, palette=palette, top_down=top_down, gap=6)
    np.testing.assert_array_equal(load_image(data), palette[indices])


def test_a_palette_of_fewer_colours_and_its_limit() -> None:
    palette, indices = noise(256, (100, 3)).astype(np.uint8), noise(100)
    np.testing.assert_array_equal(
        load_image(bmp(packed(indices[::-1], 8), 8, palette=palette, used=100)), palette[indices]
    )
    with pytest.raises(ImageError, match="beyond the 50 of its palette"):
        load_image(bmp(packed(indices[::-1], 8), 8, palette=palette[:50], used=50))


def test_pixels_said_to_begin_at_the_palette_begin_behind_it() -> None:
    palette, indices = noise(256, (256, 3)).astype(np.uint8), noise(256)
    data = bmp(packed(indices[::-1], 8), 8, palette=palette, offset=54)
    np.testing.assert_array_equal(load_image(data), palette[indices])


@pytest.mark.parametrize("offset", [0, 14, 53])
def test_pixels_inside_the_header_are_damage(offset: int) -> None:
    with pytest.raises(ImageError, match="inside its header"):
        load_image(bmp(bytes(4 * HEIGHT * WIDTH), 24, offset=offset))


@pytest.mark.parametrize("header", [12, *HEADERS])
def test_24_bits(header: int) -> None:
    colors = noise(256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    rows = np.pad(colors[::-1, :, ::-1].reshape(HEIGHT, -1), ((0, 0), (0, -3 * WIDTH % 4)))
    np.testing.assert_array_equal(load_image(bmp(rows.tobytes(), 24, header=header)), colors)


@pytest.mark.parametrize(("bits", "masks"), [(16, (0x7C00, 0x3E0, 0x1F)), (32, (0xFF0000, 0xFF00, 0xFF))])
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("top_down", [False, True])
def test_usual_masks(bits: int, masks: tuple[int, int, int], header: int, top_down: bool) -> None:
    values = noise(1 << bits)
    data = bmp(packed(values if top_down else values[::-1], bits), bits, header=header, top_down=top_down)
    np.testing.assert_array_equal(load_image(data), np.stack([by_mask(values, mask) for mask in masks], axis=2))


MASKS = [
    (16, (0xF800, 0x7E0, 0x1F, 0)),
    (16, (0x1F, 0x7E0, 0xF800, 0)),
    (16, (0xF00, 0xF0, 0xF, 0xF000)),
    (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    (16, (0xE000, 0x1C00, 0x300, 0xFF)),
    (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    (32, (0xFF, 0xFF00, 0xFF0000, 0)),
    (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    (32, (0xFE00, 0x1F0000, 0xFFE00000, 0)),
    (32, (0xFF0000, 0, 0xFF, 0)),
]


@pytest.mark.parametrize(("bits", "masks"), MASKS)
@pytest.mark.parametrize(
    ("header", "compression"), [*((header, BITFIELDS) for header in HEADERS if header != 64), (40, ALPHABITFIELDS)]
)
def test_masks(bits: int, masks: tuple[int, int, int, int], header: int, compression: int) -> None:
    values = noise(1 << bits)
    has_alpha = header >= 56 or compression == ALPHABITFIELDS
    # Behind a header of 40 bytes the masks are on their own.
    data = bmp(packed(values[::-1], bits), bits, header=header, compression=compression, masks=masks[: 3 + has_alpha])
    channels = [by_mask(values, mask) for mask in masks]
    expected = np.stack(channels[:3], axis=2)
    if has_alpha and masks[3]:
        alpha = channels[3][..., None]
        expected = np.rint((expected * alpha + 255 * (255 - alpha)) / 255).astype(np.int64)
    np.testing.assert_array_equal(load_image(data), expected)


@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"), [(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), (16, (0x7C00, 0x3E0, 0x1F, 0x8000))]
)
def test_an_alpha_of_zero_everywhere_counts_for_nothing(bits: int, masks: tuple[int, ...], header: int) -> None:
    compression = ALPHABITFIELDS if header == 40 else BITFIELDS
    values = noise(1 << bits) & ~masks[3]
    expected = np.stack([by_mask(values, mask) for mask in masks[:3]], axis=2)
    data = bmp(packed(values[::-1], bits), bits, header=header, compression=compression, masks=masks)
    np.testing.assert_array_equal(load_image(data), expected)
    # With one pixel that is opaque, all others are transparent.
    values[3, 5] |= masks[3]
    opaque = np.full_like(expected, 255)
    opaque[3, 5] = expected[3, 5]
    data = bmp(packed(values[::-1], bits), bits, header=header, compression=compression, masks=masks)
    np.testing.assert_array_equal(load_image(data), opaque)


def test_the_brightest_value_of_every_mask_is_white() -> None:
    for bits, masks in [(16, (0x7C00, 0x3E0, 0x1F)), (16, (0xF800, 0x7E0, 0x1F)), (32, (0x3FF00000, 0xFFC00, 0x3FF))]:
        data = bmp(packed(np.full((HEIGHT, WIDTH), sum(masks)), bits), bits, compression=BITFIELDS, masks=masks)
        assert (load_image(data) == 255).all()


@pytest.mark.parametrize("mask", [0xF0F, 0x10000, 0x80000001])
def test_impossible_masks_are_damage(mask: int) -> None:
    data = bmp(packed(noise(1 << 16), 16), 16, compression=BITFIELDS, masks=(mask, 0x7E0, 0x1F))
    with pytest.raises(ImageError, match="colour mask"):
        load_image(data)
    transparent = bmp(bytes(32 * 7), 16, header=56, compression=BITFIELDS, masks=(0xF800, 0x7E0, 0x1F, mask))
    with pytest.raises(ImageError, match="colour mask"):
        load_image(transparent)


@pytest.mark.parametrize(
    ("bits", "compression", "header"),
    [
        (8, JPEG, 40),
        (0, JPEG, 40),
        (24, RLE8, 40),
        (4, RLE8, 40),
        (8, RLE4, 40),
        (8, BITFIELDS, 40),
        (1, 3, 64),
        (24, 4, 64),
    ],
)
def test_kinds_without_a_rule_are_refused(bits: int, compression: int, header: int) -> None:
    with pytest.raises(ImageError, match="which is not read"):
        load_image(bmp(bytes(4000), bits, compression=compression, header=header))


@pytest.mark.parametrize(("bits", "header"), list(product([1, 4, 8, 16, 24, 32], [40, 108])))
def test_a_row_too_few_is_noticed(bits: int, header: int) -> None:
    palette = np.zeros((1 << bits, 3), np.uint8) if bits <= 8 else None
    whole = bmp(bytes(-(-WIDTH * bits // 32) * 4 * HEIGHT), bits, header=header, palette=palette)
    assert load_image(whole).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageError, match="truncated BMP"):
        load_image(whole[:-1])


class TestRunLengths:
    PALETTE = noise(256, (256, 3)).astype(np.uint8)
    SIZE = (5, 3)

    def pixels(self, runs: bytes, *, bits: int = 8) -> Any:
        data = bmp(
            runs, bits, compression=RLE8 if bits == 8 else RLE4, palette=self.PALETTE[: 1 << bits], size=self.SIZE
        )
        found = load_image(data)
        lookup = {tuple(color): index for index, color in reversed(list(enumerate(self.PALETTE[: 1 << bits].tolist())))}
        return [[lookup[tuple(color)] for color in row] for row in found[::-1].tolist()]

    def test_runs_literals_and_ends_of_lines(self) -> None:
        runs = b"\x05\x09\0\0" + b"\x02\x01" + b"\0\x03\x04\x05\x06\0" + b"\0\0" + b"\x01\x08\x04\x07" + b"\0\1"
        assert self.pixels(runs) == [[9] * 5, [1, 1, 4, 5, 6], [8, 7, 7, 7, 7]]

    def test_of_4_bits(self) -> None:
        runs = b"\x05\x12\0\0" + b"\0\x05\x34\x56\x70\0" + b"\0\0" + b"\x01\x90\x04\xab" + b"\0\1"
        assert self.pixels(runs, bits=4) == [[1, 2, 1, 2, 1], [3, 4, 5, 6, 7], [9, 10, 11, 10, 11]]

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("count", [6, 8, 16, 200])
    def test_what_fills_a_row_up_is_not_seen(self, bits: int, count: int) -> None:
        value = 0x33 if bits == 4 else 3
        runs = bytes([count, value, 0, 0]) * 2 + bytes([count, value, 0, 1])
        assert self.pixels(runs, bits=bits) == [[3] * 5] * 3
        literal = bytes([0, 6]) + (b"\x33\x33\x33\0" if bits == 4 else b"\x03" * 6)
        assert self.pixels((literal + b"\0\0") * 3 + b"\0\1", bits=bits) == [[3] * 5] * 3

    def test_what_is_jumped_over_has_the_first_colour(self) -> None:
        runs = b"\x01\x07" + b"\0\2\x02\x01" + b"\x02\x08" + b"\0\1"
        assert self.pixels(runs) == [[7, 0, 0, 0, 0], [0, 0, 0, 8, 8], [0] * 5]

    def test_rows_beyond_the_last_are_damage(self) -> None:
        with pytest.raises(ImageError, match="beyond the last of its 3 rows"):
            self.pixels(b"\x05\x01\0\0" * 3 + b"\x05\x01\0\1")
        assert self.pixels(b"\x05\x01\0\0" * 3 + b"\0\1") == [[1] * 5] * 3

    @pytest.mark.parametrize("stored", [0, 1, 10**6])
    def test_the_stored_size_does_not_matter(self, stored: int) -> None:
        data = bytearray(bmp(b"\x05\x01\0\0" * 3 + b"\0\1", 8, compression=RLE8, palette=self.PALETTE, size=self.SIZE))
        struct.pack_into("<I", data, 34, stored)
        assert len(np.unique(load_image(bytes(data)).reshape(-1, 3), axis=0)) == 1

    @pytest.mark.parametrize("bits", [4, 8])
    def test_every_cut_is_noticed(self, bits: int) -> None:
        runs = b"\x05\x09\0\0" + b"\x02\x01" + b"\0\x03\x04\x05\x06\0"[: 6 if bits == 8 else 4] + b"\0\2\1\1" + b"\0\1"
        whole = bmp(
            runs, bits, compression=RLE8 if bits == 8 else RLE4, palette=self.PALETTE[: 1 << bits], size=self.SIZE
        )
        assert load_image(whole).shape == (3, 5, 3)
        for cut in range(len(whole) - len(runs), len(whole)):
            with pytest.raises(ImageError, match="truncated BMP"):
                load_image(whole[:cut])
