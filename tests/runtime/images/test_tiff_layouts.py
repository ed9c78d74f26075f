"""TIFF in every layout that is accepted: the samples that were stored come back, by the rules of docs/images.md."""

import io
import lzma
import struct
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime.errors import ImageError
from iqa_runtime.images.loading import load_image

HEIGHT, WIDTH = 19, 21
GRAY, RGB, PALETTE, INKS, YCBCR = 1, 2, 3, 5, 6
DEFLATE, PLAIN, LZMA, ZSTD = 8, 1, 34925, 50000
FLOAT = 3
ROUNDING = 1  # level: of fixed-point tables, as libtiff has them
COMPRESS = {PLAIN: bytes, DEFLATE: zlib.compress, LZMA: lzma.compress}


def samples(channels: int, bits: int = 8) -> NDArray[Any]:
    """Make noise of a depth; floats in 0 to 1 where `bits` is negative."""
    generator = np.random.default_rng(3)
    if bits < 0:
        return generator.random((HEIGHT, WIDTH, channels)).astype(f"f{-bits // 8}")
    dtype = np.uint16 if bits > 8 else np.uint8
    return generator.integers(0, 1 << bits, (HEIGHT, WIDTH, channels)).astype(dtype)


def pack(values: NDArray[Any], bits: int, order: str) -> bytes:
    """Store rows of samples; those that are no whole bytes high bits first."""
    if bits in (8, 16, 32, 64):
        return values.astype(values.dtype.newbyteorder(order)).tobytes()
    rows = values.reshape(len(values), -1)
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    return np.packbits(spread.reshape(len(rows), -1), axis=1).tobytes()


def differences(values: NDArray[Any], predictor: int) -> NDArray[Any]:
    """Store each sample of a row as its difference from the one before (TIFF 6.0, section 14; Technical Note 3)."""
    if predictor == 2:
        whole = values.view(f"u{values.dtype.itemsize}")
        return np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    if predictor == FLOAT:
        planes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8)
        planes = planes.reshape(len(values), -1, values.dtype.itemsize).transpose(0, 2, 1)
        flat = planes.reshape(len(values), -1, values.shape[2])
        return np.concatenate([flat[:, :1], flat[:, 1:] - flat[:, :-1]], axis=1)
    return values


def tiff(
    stored: NDArray[Any],
    photometric: int,
    *,
    bits: int = 8,
    order: str = "<",
    big: bool = False,
    separate: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int = HEIGHT,
    compression: int = DEFLATE,
    predictor: int = 1,
    tags: dict[int, list[int]] | None = None,
) -> bytes:
    """Write a page by hand: samples H x W x channels."""
    height, width, channels = stored.shape
    block_height, block_width = tile or (rows, width)
    padded = np.pad(stored, ((0, -height % block_height if tile else 0), (0, -width % block_width), (0, 0)))
    compress: Any = COMPRESS.get(compression)
    if compression == ZSTD:
        compress = pytest.importorskip("backports.zstd").compress
    blocks = []
    for plane in range(channels) if separate else [slice(None)]:
        part = padded[..., [plane]] if separate else padded
        for top, left in product(range(0, len(padded), block_height), range(0, padded.shape[1], block_width)):
            block = part[top : top + block_height, left : left + block_width]
            kept = differences(np.ascontiguousarray(block), predictor)
            blocks.append(compress(pack(kept, 8 if predictor == FLOAT else abs(bits), order)))
    place = "Q" if big else "I"
    start = 16 if big else 8
    offsets = [start + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    all_tags = {256: [width], 257: [height], 258: [abs(bits)] * channels, 259: [compression], 262: [photometric]}
    all_tags |= {277: [channels], 284: [1 + separate], 317: [predictor], 339: [FLOAT if bits < 0 else 1] * channels}
    where = {322: [block_width], 323: [block_height], 324: offsets} if tile else {278: [rows], 273: offsets}
    all_tags |= where | {325 if tile else 279: [len(block) for block in blocks]} | (tags or {})
    directory = start + sum(map(len, blocks))
    entry, room = (20, 8) if big else (12, 4)
    beyond = directory + (8 if big else 2) + entry * len(all_tags) + room
    entries = values = b""
    for tag, numbers in sorted(all_tags.items()):
        wide = tag in (273, 279, 324, 325)
        packed = struct.pack(f"{order}{len(numbers)}{place if wide else 'H'}", *numbers)
        entries += struct.pack(f"{order}HH{place}", tag, (16 if big else 4) if wide else 3, len(numbers))
        if len(packed) <= room:
            entries += packed.ljust(room, b"\0")
        else:
            entries += struct.pack(order + place, beyond + len(values))
            values += packed
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, directory) if big else struct.pack(f"{order}HI", 42, directory)
    count = struct.pack(order + ("Q" if big else "H"), len(all_tags))
    return mark + head + b"".join(blocks) + count + entries + bytes(room) + values


def in_8_bits(stored: NDArray[Any], bits: int) -> NDArray[np.int64]:
    if bits < 0:
        return np.rint(stored.astype(np.float64) * 255).astype(np.int64)
    wide = stored.astype(np.int64)
    return wide >> (bits - 8) if bits > 8 else wide * (255 // ((1 << bits) - 1))


def over_white(color: NDArray[np.int64], alpha: NDArray[np.int64], meaning: int) -> NDArray[np.int64]:
    if meaning == 1:  # premultiplied
        return np.minimum(color + 255 - alpha, 255)
    return np.rint((color * alpha + 255 * (255 - alpha)) / 255).astype(np.int64)


LAYOUTS = [
    dict(zip(("order", "big", "separate", "tile", "rows"), layout, strict=True))
    for layout in (
        ("<", False, False, None, HEIGHT),
        (">", True, True, None, 4),
        ("<", True, False, (16, 16), 0),
        (">", False, True, (16, 16), 0),
        ("<", False, True, None, HEIGHT),
        (">", False, False, None, 4),
    )
]
"""Each value of each with each value of the others."""


def named(layout: dict[str, Any]) -> str:
    return " ".join(str(value) for value in layout.values())


@pytest.mark.parametrize("layout", LAYOUTS, ids=named)
class TestLayouts:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16, -16, -32, -64])
    @pytest.mark.parametrize("inverted", [False, True])
    def test_gray(self, bits: int, inverted: bool, layout: dict[str, Any]) -> None:
        stored = samples(1, bits)
        expected = in_8_bits(stored, bits).repeat(3, axis=2)
        data = tiff(stored, 0 if inverted else GRAY, bits=bits, **layout)
        np.testing.assert_array_equal(load_image(data), 255 - expected if inverted else expected)

    @pytest.mark.parametrize("bits", [2, 4, 8, 12, 16, -16, -32, -64])
    def test_rgb(self, bits: int, layout: dict[str, Any]) -> None:
        stored = samples(3, bits)
        np.testing.assert_array_equal(load_image(tiff(stored, RGB, bits=bits, **layout)), in_8_bits(stored, bits))

    @pytest.mark.parametrize("bits", [8, 16, -32])
    @pytest.mark.parametrize(("photometric", "colors"), [(GRAY, 1), (RGB, 3)])
    @pytest.mark.parametrize("extra", [[1], [2], [2, 0], [0, 2]])
    def test_alpha(self, bits: int, photometric: int, colors: int, extra: list[int], layout: dict[str, Any]) -> None:
        stored = samples(colors + len(extra), bits)
        channels = in_8_bits(stored, bits)
        place = next(index for index, meaning in enumerate(extra) if meaning)
        alpha = channels[..., colors + place, None]
        expected = over_white(channels[..., :colors], alpha, extra[place])
        data = tiff(stored, photometric, bits=bits, tags={338: extra}, **layout)
        np.testing.assert_array_equal(load_image(data), np.broadcast_to(expected, (HEIGHT, WIDTH, 3)))

    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("extra", [[], [0], [0, 0], [2]])
    def test_inks(self, bits: int, extra: list[int], layout: dict[str, Any]) -> None:
        stored = samples(4 + len(extra), bits)
        channels = in_8_bits(stored, bits)
        expected = (255 - channels[..., :3]) * (255 - channels[..., 3:4]) // 255
        if extra == [2]:
            expected = over_white(expected, channels[..., 4:], 2)
        data = tiff(stored, INKS, bits=bits, tags={338: extra} if extra else None, **layout)
        np.testing.assert_array_equal(load_image(data), expected)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("shift", [0, 8])
    def test_palette(self, bits: int, shift: int, layout: dict[str, Any]) -> None:
        colors = np.random.default_rng(1).integers(1, 256, (3, 1 << bits))
        stored = samples(1, bits)
        # Of 16 bits, as the standard has it, or of 8, as some write it.
        data = tiff(stored, PALETTE, bits=bits, tags={320: (colors << shift).ravel().tolist()}, **layout)
        np.testing.assert_array_equal(load_image(data), colors.T[stored[..., 0]])

    @pytest.mark.parametrize("bits", [8, 16, -16, -32, -64])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("predictor", [2, 3])
    def test_predictors(self, bits: int, channels: int, predictor: int, layout: dict[str, Any]) -> None:
        if predictor == FLOAT and bits > 0:
            with pytest.raises(ImageError, match="predictor"):
                load_image(
                    tiff(samples(channels, bits), RGB if channels == 3 else GRAY, tags={317: [3]}, bits=bits, **layout)
                )
            return
        stored = samples(channels, bits)
        data = tiff(stored, RGB if channels == 3 else GRAY, bits=bits, predictor=predictor, **layout)
        np.testing.assert_array_equal(load_image(data), np.broadcast_to(in_8_bits(stored, bits), (HEIGHT, WIDTH, 3)))

    @pytest.mark.parametrize("compression", [PLAIN, LZMA, ZSTD])
    def test_compressions(self, compression: int, layout: dict[str, Any]) -> None:
        stored = samples(3, 16)
        data = tiff(stored, RGB, bits=16, compression=compression, **layout)
        np.testing.assert_array_equal(load_image(data), stored >> 8)

    def test_samples_of_no_stated_format_are_unsigned(self, layout: dict[str, Any]) -> None:
        for bits in (8, 16):
            stored = samples(3, bits)
            data = tiff(stored, RGB, bits=bits, tags={339: [4] * 3}, **layout)
            np.testing.assert_array_equal(load_image(data), in_8_bits(stored, bits))


class TestRefused:
    @pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
    def test_floats_outside_0_to_1(self, value: float) -> None:
        stored = samples(3, -32)
        stored[4, 5, 1] = value
        with pytest.raises(ImageError, match="outside 0 to 1"):
            load_image(tiff(stored, RGB, bits=-32))

    @pytest.mark.parametrize(
        ("bits", "channels", "photometric", "tags"),
        [
            (8, 2, GRAY, {}),
            (8, 2, GRAY, {338: [0]}),
            (8, 4, RGB, {338: [0]}),
            (8, 4, RGB, {}),
            (8, 2, 0, {338: [1]}),
            (8, 4, INKS, {332: [2]}),
            (8, 3, 8, {}),
            (8, 3, INKS, {}),
            (16, 1, PALETTE, {320: [0] * 3}),
            (8, 1, PALETTE, {320: [0] * 767}),
            (8, 1, PALETTE, {}),
            (8, 3, RGB, {258: [8, 8, 16]}),
            (8, 1, GRAY, {339: [2]}),
            (-32, 1, PALETTE, {320: [0] * 768}),
            (4, 1, GRAY, {317: [2]}),
            (8, 1, GRAY, {317: [4]}),
            (8, 33, RGB, {338: [2]}),
        ],
    )
    def test_kinds_without_a_rule(self, bits: int, channels: int, photometric: int, tags: dict[int, list[int]]) -> None:
        with pytest.raises(ImageError, match="TIFF"):
            load_image(tiff(samples(channels, bits), photometric, bits=bits, tags=tags))

    @pytest.mark.parametrize("compression", [DEFLATE, LZMA, ZSTD])
    def test_a_stream_cut_short(self, compression: int) -> None:
        whole = tiff(samples(1), GRAY, compression=compression)
        length = struct.unpack_from("<I", whole, whole.index(struct.pack("<HHI", 279, 4, 1)) + 8)[0]
        shorter = struct.pack("<HHII", 279, 4, 1, length - 5)
        with pytest.raises(ImageError, match="compressed data"):
            load_image(whole.replace(struct.pack("<HHII", 279, 4, 1, length), shorter))

    @pytest.mark.parametrize("order", "<>")
    def test_a_bigtiff_cut_anywhere(self, order: str) -> None:
        whole = tiff(samples(3), RGB, order=order, big=True, rows=4)
        for cut in range(0, len(whole), 7):
            with pytest.raises(ImageError):
                load_image(whole[:cut])


class TestYcbcr:
    @pytest.mark.parametrize("separate", [False, True])
    def test_colours_are_those_of_bt601_in_full_range(self, separate: bool) -> None:
        levels = np.arange(0, 256, 255 // 15)
        stored = np.stack(np.meshgrid(levels, levels, levels), axis=3).reshape(64, 64, 3).astype(np.uint8)
        data = tiff(stored, YCBCR, rows=64, separate=separate, compression=PLAIN, tags={530: [1, 1]})
        luminance, blue, red = (stored[..., index].astype(float) for index in range(3))
        exact = [
            luminance + 1.402 * (red - 128),
            luminance - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
            luminance + 1.772 * (blue - 128),
        ]
        assert np.abs(load_image(data) - np.clip(np.stack(exact, axis=2), 0, 255)).max() <= ROUNDING

    @pytest.mark.parametrize(("across", "down"), list(product((1, 2, 4), repeat=2)))
    def test_chrominances_are_shared_by_the_pixels_of_a_unit(self, across: int, down: int) -> None:
        units_high, units_wide = -(-HEIGHT // down), -(-WIDTH // across)
        generator = np.random.default_rng(0)
        luminance = generator.integers(0, 256, (units_high, units_wide, down, across))
        # Chrominances of no colour: the picture is its luminance, whichever unit they belong to.
        units = np.concatenate(
            [luminance.reshape(units_high, units_wide, -1), np.full((units_high, units_wide, 2), 128)], axis=2
        ).astype(np.uint8)
        shell = tiff(samples(3), YCBCR, compression=PLAIN, tags={530: [across, down]})
        length = struct.pack("<HHII", 279, 4, 1, HEIGHT * WIDTH * 3)
        place = struct.pack("<HHII", 273, 4, 1, 8)
        data = shell.replace(length, struct.pack("<HHII", 279, 4, 1, units.size))
        data = data.replace(place, struct.pack("<HHII", 273, 4, 1, len(shell))) + units.tobytes()
        gray = luminance.transpose(0, 2, 1, 3).reshape(units_high * down, -1)[:HEIGHT, :WIDTH]
        np.testing.assert_array_equal(load_image(data), gray[..., None].repeat(3, axis=2))

    @pytest.mark.parametrize("compression", [DEFLATE, LZMA])
    @pytest.mark.parametrize("layout", LAYOUTS, ids=named)
    def test_a_predictor_is_undone_before_colours_are_made(self, compression: int, layout: dict[str, Any]) -> None:
        stored = samples(3)
        plain = tiff(stored, YCBCR, compression=PLAIN, tags={530: [1, 1]})
        data = tiff(stored, YCBCR, compression=compression, predictor=2, tags={530: [1, 1]}, **layout)
        np.testing.assert_array_equal(load_image(data), load_image(plain))

    def test_a_predictor_of_lzw_is_undone(self) -> None:
        gray = samples(1).repeat(3, axis=2)  # with chrominances of no colour below
        stored = gray.copy()
        stored[..., 1:] = 128
        shell = tiff(stored, YCBCR, compression=PLAIN, predictor=2, tags={259: [5], 530: [1, 1]})
        buffer = io.BytesIO()
        rows = Image.fromarray(differences(stored, 2))
        rows.save(buffer, "TIFF", compression="tiff_lzw", tiffinfo={278: HEIGHT})
        with Image.open(io.BytesIO(buffer.getvalue())) as written:
            (offset,), (size,) = written.tag_v2[273], written.tag_v2[279]
        coded = buffer.getvalue()[offset : offset + size]
        length, place = (struct.pack("<HHII", *entry) for entry in ((279, 4, 1, stored.size), (273, 4, 1, 8)))
        data = shell.replace(length, struct.pack("<HHII", 279, 4, 1, size))
        data = data.replace(place, struct.pack("<HHII", 273, 4, 1, len(shell))) + coded
        np.testing.assert_array_equal(load_image(data), gray)

    @pytest.mark.parametrize("subsampling", [{}, {530: [2, 1]}, {530: [2, 2]}, {530: [1, 2]}])
    def test_a_predictor_of_shared_chrominances_is_refused(self, subsampling: dict[int, list[int]]) -> None:
        with pytest.raises(ImageError, match="subsampled chrominance and a predictor"):
            load_image(tiff(samples(3), YCBCR, predictor=2, tags=subsampling))

    def test_other_coefficients_are_refused(self) -> None:
        for tags in ({529: [2126, 7152, 722]}, {532: [16, 235, 128, 240, 128, 240]}):
            with pytest.raises(ImageError, match="YCbCr other than that of JPEG"):
                load_image(tiff(samples(3), YCBCR, tags={530: [1, 1]} | tags))


class TestJpegBlocks:
    def jpeg(self, size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
        with Image.open(Path(__file__).parents[3] / "examples" / "photographs" / "stream.jpg") as photograph:
            buffer = io.BytesIO()
            photograph.resize(size).convert(mode).save(buffer, "JPEG", quality=90, **options)
        return buffer.getvalue()

    def page(self, frame: bytes, size: tuple[int, int], *, rows: int | None = None, channels: int = 3) -> bytes:
        """Lay one JPEG file into a page of another size."""
        width, height = size
        stored = np.zeros((height, width, channels), np.uint8)
        shell = tiff(
            stored, YCBCR if channels == 3 else GRAY, rows=height, compression=PLAIN, tags={259: [7], 530: [1, 1]}
        )
        if rows:
            shell = shell.replace(
                struct.pack("<HHIHH", 278, 3, 1, height, 0), struct.pack("<HHIHH", 278, 3, 1, rows, 0)
            )
        length = struct.pack("<HHII", 279, 4, 1, stored.size)
        data = shell.replace(length, struct.pack("<HHII", 279, 4, 1, len(frame)))
        return data.replace(struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 273, 4, 1, len(shell))) + frame

    def test_the_pixels_are_those_of_the_file_inside(self) -> None:
        for subsampling in ("4:4:4", "4:2:0"):
            frame = self.jpeg((64, 48), subsampling=subsampling)
            np.testing.assert_array_equal(load_image(self.page(frame, (64, 48))), load_image(frame))

    @pytest.mark.parametrize("inside", [(64, 47), (64, 49), (63, 48), (65, 48), (3000, 3000), (48, 64), (16, 16)])
    def test_a_frame_of_another_size_is_refused(self, inside: tuple[int, int]) -> None:
        with pytest.raises(ImageError, match=f"{inside[0]} x {inside[1]} of 64 x 48 pixels"):
            load_image(self.page(self.jpeg(inside), (64, 48)))

    def test_an_enormous_frame_is_refused_before_it_is_decoded(self) -> None:
        frame = bytearray(self.jpeg((64, 48)))
        frame = frame.replace(b"\xff\xd9", b"\xaa" * 10**6 + b"\xff\xd9")  # enough to code as many blocks
        struct.pack_into(">HH", frame, frame.index(b"\xff\xc0") + 5, 8_000, 8_000)
        with pytest.raises(ImageError, match="8000 x 8000 of 64 x 48"):
            load_image(self.page(bytes(frame), (64, 48)))

    def test_a_frame_of_other_channels_is_refused(self) -> None:
        with pytest.raises(ImageError, match="1 of 3 channels"):
            load_image(self.page(self.jpeg((64, 48), "L"), (64, 48)))
        with pytest.raises(ImageError, match="3 of 1 channels"):
            load_image(self.page(self.jpeg((64, 48)), (64, 48), channels=1))

    def test_tables_of_another_type_are_an_error(self) -> None:
        data = tiff(np.zeros((8, 8, 1), np.uint8), GRAY, rows=8, tags={259: [7], 347: [0xFFD8, 0xFFD9]})
        with pytest.raises(ImageError, match="impossible values of tag 347"):
            load_image(data)
