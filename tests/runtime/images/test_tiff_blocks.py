"""Strips and tiles of TIFF files: whole ones pass in every layout, and none that lacks pixels does."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.loading import load_image
from iqa_runtime.images.tiff_lzw import decode_lzw

WIDTH, HEIGHT = 173, 121
CLEAR, END = 256, 257
STRIP_OFFSETS, STRIP_BYTES = 273, 279
COMPRESSIONS = {
    "raw": "raw",
    "lzw": "tiff_lzw",
    "deflate": "tiff_adobe_deflate",
    "packbits": "packbits",
    "jpeg": "jpeg",
}


def smooth() -> Image.Image:
    """Make an image of plain areas, slopes and noise, so that codes and runs of every length occur."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.dstack([rows, columns, rows // 40 * 60]).astype(np.uint8)
    pixels[:30] = np.random.default_rng(0).integers(0, 256, (30, WIDTH, 3))
    return Image.fromarray(pixels)


def encode(image: Image.Image, compression: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=COMPRESSIONS[compression], **options)
    return buffer.getvalue()


def tag_place(data: bytes, tag: int) -> tuple[str, int]:
    """Return the struct format of a tag's values and where they lie."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        found, kind, length = struct.unpack_from("<HHI", data, entry)
        if found == tag:
            form = f"<{length}" + {3: "H", 4: "I"}[kind]
            inline = struct.calcsize(form) <= 4
            return form, entry + 8 if inline else struct.unpack_from("<I", data, entry + 8)[0]
    raise KeyError(tag)


def values_of(data: bytes, tag: int) -> tuple[int, ...]:
    form, place = tag_place(data, tag)
    return struct.unpack_from(form, data, place)


def with_values(data: bytes, tag: int, values: list[int]) -> bytes:
    form, place = tag_place(data, tag)
    changed = bytearray(data)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


def strips(data: bytes) -> list[bytes]:
    places = zip(values_of(data, STRIP_OFFSETS), values_of(data, STRIP_BYTES), strict=True)
    return [data[offset : offset + length] for offset, length in places]


def build(tags: dict[int, list[int]], blocks: list[bytes], *, offsets: int = STRIP_OFFSETS) -> bytes:
    """Build a TIFF of the given strips or tiles by hand, for layouts that Pillow does not write."""
    lengths = {STRIP_OFFSETS: STRIP_BYTES, 324: 325}[offsets]
    places = [8 + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    tags = {**tags, offsets: places, lengths: [len(block) for block in blocks]}
    start = 8 + sum(map(len, blocks))
    directory, beyond = struct.pack("<H", len(tags)), b""
    end = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        directory += struct.pack("<HHI", tag, 4, len(values))
        directory += packed if len(values) == 1 else struct.pack("<I", end + len(beyond))
        beyond += packed if len(values) > 1 else b""
    return b"II\x2a\0" + struct.pack("<I", start) + b"".join(blocks) + directory + bytes(4) + beyond


def gray_tags(height: int, *, compression: int = 8, tags: dict[int, list[int]] | None = None) -> dict[int, list[int]]:
    return {256: [16], 257: [height], 258: [8], 259: [compression], 262: [1], 277: [1]} | (tags or {})


def gray_rows(height: int, width: int = 16) -> NDArray[np.uint8]:
    return (np.arange(height * width, dtype=np.uint8).reshape(height, width) * 7) % 251


@pytest.mark.parametrize("rows", [None, 1, 7, HEIGHT])
@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *((mode, name) for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK") for name in COMPRESSIONS if name != "jpeg"),
        *((mode, "jpeg") for mode in ("RGB", "L", "CMYK")),
    ],
)
def test_whole_files_pass(mode: str, compression: str, rows: int | None) -> None:
    if compression == "jpeg" and rows:
        rows = -(-rows // 16) * 16  # libtiff codes whole blocks
    data = encode(smooth().convert(mode), compression, **({} if rows is None else {"tiffinfo": {278: rows}}))
    assert load_image(data).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("one_strip", [False, True])
def test_a_strip_of_which_half_is_announced_is_refused(compression: str, one_strip: bool) -> None:
    data = encode(smooth(), compression, **({"tiffinfo": {278: HEIGHT}} if one_strip else {}))
    halved = [length // 2 for length in values_of(data, STRIP_BYTES)]
    damaged = with_values(data, STRIP_BYTES, halved)
    assert inspect_header(damaged) == inspect_header(data)
    with pytest.raises(ImageError, match=r"corrupt|truncated"):
        load_image(damaged)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "jpeg"])
def test_zeros_among_the_coded_data_are_refused(compression: str) -> None:
    data = encode(smooth(), compression, **({"quality": 100} if compression == "jpeg" else {}))
    # In the middle: the noise at the top is coded byte by byte, and a zero more is a byte like any other.
    start = values_of(data, STRIP_OFFSETS)[0] + values_of(data, STRIP_BYTES)[0] // 2
    with pytest.raises(ImageError, match="corrupt"):
        load_image(data[:start] + bytes(200) + data[start + 200 :])


def test_every_flipped_byte_of_deflate_is_caught() -> None:
    data = encode(smooth(), "deflate")
    offset, length = values_of(data, STRIP_OFFSETS)[0], values_of(data, STRIP_BYTES)[0]
    for place in range(offset, offset + length - 5, 41):  # before the last byte of codes: its spare bits mean nothing
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(ImageError, match="corrupt TIFF"):
            load_image(bytes(damaged))


def test_deflate_that_never_ends_is_refused_before_it_fills_memory() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(ImageError, match="161 bytes instead of 160"):
        load_image(build(gray_tags(10), [bomb]))


def test_a_filled_up_last_strip_passes() -> None:
    rows = gray_rows(16)
    blocks = [zlib.compress(rows[:8].tobytes()), zlib.compress(rows[8:].tobytes())]
    data = build(gray_tags(11, tags={278: [8]}), blocks)
    np.testing.assert_array_equal(load_image(data)[..., 0], rows[:11])
    with pytest.raises(ImageError, match="decode to 0 bytes instead of 48"):
        load_image(build(gray_tags(11, tags={278: [8]}), [blocks[0], zlib.compress(b"")]))


def test_tiles_pass_and_a_short_one_is_refused() -> None:
    image = gray_rows(16, 32)
    tiles = [np.ascontiguousarray(image[:, left : left + 16]).tobytes() for left in (0, 16)]
    tags = gray_tags(16, tags={256: [32], 322: [16], 323: [16]})
    whole = build(tags, [zlib.compress(tile) for tile in tiles], offsets=324)
    np.testing.assert_array_equal(load_image(whole)[..., 0], image)
    with pytest.raises(ImageError, match="decode to 255 bytes instead of 256"):
        load_image(build(tags, [zlib.compress(tiles[0]), zlib.compress(tiles[1][:-1])], offsets=324))


@pytest.mark.parametrize(("width", "height"), [(1 << 15, 1 << 15), (16, 1 << 20), (1 << 20, 16), (2048, 2064)])
def test_tiles_far_larger_than_the_picture_are_refused_undecoded(width: int, height: int) -> None:
    tags = gray_tags(16, tags={322: [width], 323: [height]})
    with pytest.raises(ImageError, match=f"tiles of {width} x {height} pixels"):
        inspect_header(build(tags, [zlib.compress(bytes(100))], offsets=324))


def test_a_tile_of_usual_size_may_hold_a_small_picture() -> None:
    rows = np.pad(gray_rows(16), ((0, 2032), (0, 2032)))
    tags = gray_tags(16, tags={322: [2048], 323: [2048]})
    found = load_image(build(tags, [zlib.compress(rows.tobytes())], offsets=324))
    np.testing.assert_array_equal(found[..., 0], gray_rows(16))


@pytest.mark.parametrize("compression", [1, 8])
def test_the_size_of_a_tile_tells_tiles_from_strips(compression: int) -> None:
    image = gray_rows(20, 40)  # of tiles that go beyond the right and lower edges
    padded = np.pad(image, ((0, 12), (0, 8)))
    tiles = [padded[top : top + 16, left : left + 16].tobytes() for top in (0, 16) for left in (0, 16, 32)]
    rows = [image[:16].tobytes(), image[16:].tobytes()]
    if compression == 8:
        tiles, rows = [zlib.compress(tile) for tile in tiles], [zlib.compress(strip) for strip in rows]
    size = gray_tags(20, compression=compression, tags={256: [40]})
    for offsets in (STRIP_OFFSETS, 324):
        for data in (
            build(size | {322: [16], 323: [16]}, tiles, offsets=offsets),
            build(size | {278: [16]}, rows, offsets=offsets),
        ):
            np.testing.assert_array_equal(load_image(data)[..., 0], image)
    for half in ({322: [16]}, {323: [16]}):
        with pytest.raises(ImageError, match="empty strips or tiles"):
            load_image(build(size | half, tiles, offsets=324))


def without(data: bytes, tag: int) -> bytes:
    """Give a tag of a file a number that means nothing."""
    form = struct.pack("<HH", tag, 4)
    assert data.count(form) == 1
    return data.replace(form, struct.pack("<HH", 65000, 4))


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("offsets", [STRIP_OFFSETS, 324])
def test_the_length_of_one_plain_strip_or_tile_follows_from_its_size(bits: int, offsets: int) -> None:
    tags = gray_tags(16, compression=1, tags={258: [bits]} | ({322: [16], 323: [16]} if offsets == 324 else {}))
    rows = gray_rows(16)
    block = rows.tobytes() if bits == 8 else np.packbits(rows & 1, axis=1).tobytes()
    data = without(build(tags, [block], offsets=offsets), offsets + (6 if offsets == STRIP_OFFSETS else 1))
    np.testing.assert_array_equal(load_image(data)[..., 0], rows if bits == 8 else (rows & 1) * 255)
    with pytest.raises(ImageError, match="its pixels should end"):
        load_image(data.replace(struct.pack("<HHII", offsets, 4, 1, 8), struct.pack("<HHII", offsets, 4, 1, 8 << 20)))


@pytest.mark.parametrize("compression", [5, 32773])
def test_pixels_of_no_stated_compression_are_plain_and_nothing_else(compression: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    tags = gray_tags(16)
    del tags[259]
    np.testing.assert_array_equal(load_image(build(tags, [rows.tobytes()]))[..., 0], rows)
    coded = strips(encode(Image.fromarray(rows), {5: "lzw", 32773: "packbits"}[compression]))
    assert len(coded[0]) > rows.size  # noise grows
    with pytest.raises(ImageError, match="instead of 256"):
        load_image(build(tags, coded))


def test_lengths_and_places_that_are_missing_are_named() -> None:
    tags, rows = gray_tags(16), gray_rows(16)
    coded = build(tags, [zlib.compress(rows.tobytes())])
    two = build(tags | {259: [1], 278: [8]}, [rows[:8].tobytes(), rows[8:].tobytes()])
    for data in (coded, two):
        with pytest.raises(ImageError, match="lacks the lengths of its strips"):
            load_image(without(data, STRIP_BYTES))
        with pytest.raises(ImageError, match="lacks the places of its strips"):
            load_image(without(data, STRIP_OFFSETS))


def test_planes_of_their_own_pass_and_a_short_one_is_refused() -> None:
    planes = [gray_rows(10) + shift for shift in (0, 1, 2)]
    tags = gray_tags(10, tags={258: [8, 8, 8], 262: [2], 277: [3], 284: [2]})
    blocks = [zlib.compress(plane.tobytes()) for plane in planes]
    np.testing.assert_array_equal(load_image(build(tags, blocks)), np.dstack(planes))
    with pytest.raises(ImageError, match="decode to 16 bytes instead of 160"):
        load_image(build(tags, [*blocks[:2], zlib.compress(planes[2][:1].tobytes())]))


def test_chrominance_of_half_the_resolution_is_counted() -> None:
    units = bytes([100, 100, 100, 100, 128, 128]) * (8 * 5)
    tags = gray_tags(10, compression=1, tags={258: [8, 8, 8], 262: [6], 277: [3], 530: [2, 2]})
    assert load_image(build(tags, [units])).shape == (10, 16, 3)
    with pytest.raises(ImageError, match="decode to 239 bytes instead of 240"):
        load_image(build(tags, [units[:-1]]))
    with pytest.raises(ImageError, match="subsampling 3 x 2"):
        load_image(build({**tags, 530: [3, 2]}, [units]))


def test_mirrored_bytes_are_turned_before_they_are_read() -> None:
    mirror = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    coded = strips(encode(Image.fromarray(gray_rows(10)), "lzw"))[0]
    data = build(gray_tags(10, compression=5, tags={266: [2]}), [coded.translate(mirror)])
    np.testing.assert_array_equal(load_image(data)[..., 0], gray_rows(10))


def test_a_jpeg_strip_smaller_than_its_rows_is_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(gray_rows(8)).save(buffer, "JPEG", quality=95)
    whole = build(gray_tags(8, compression=7), [buffer.getvalue()])
    assert load_image(whole).shape == (8, 16, 3)
    with pytest.raises(ImageError, match="16 x 8 of 16 x 9 pixels"):
        load_image(build(gray_tags(9, compression=7), [buffer.getvalue()]))


class TestPackBits:
    ROW = b"\xaa" * 3 + b"\x80\x00\x2a" + b"\x07" * 10
    CODED = b"\xfe\xaa" + b"\x02\x80\x00\x2a" + b"\x80" + b"\xf7\x07"

    def test_runs_literals_and_fillers(self) -> None:
        data = build(gray_tags(1, compression=32773), [self.CODED])
        assert load_image(data)[0, :, 0].tobytes() == self.ROW

    @pytest.mark.parametrize("end", range(1, len(CODED)))
    def test_every_cut_is_refused(self, end: int) -> None:
        with pytest.raises(ImageError, match="instead of 16"):
            load_image(build(gray_tags(1, compression=32773), [self.CODED[:end]]))


def lzw(codes: list[int], width: int = 9) -> bytes:
    bits = "".join(f"{code:0{width}b}" for code in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


class TestLzw:
    @pytest.mark.parametrize("kind", ["smooth", "flat", "noise"])
    @pytest.mark.parametrize("rows", [1, 16, 600])
    def test_strips_decode_to_their_rows(self, kind: str, rows: int) -> None:
        generator = np.random.default_rng(0)
        pixels = {
            "smooth": np.mgrid[:600, :100][1],
            "flat": np.zeros((600, 100)),
            "noise": generator.integers(0, 256, (600, 100)),
        }[kind].astype(np.uint8)
        data = encode(Image.fromarray(pixels), "lzw", tiffinfo={278: rows})
        coded = strips(data)
        assert len(coded) == -(-600 // rows)
        for index, strip in enumerate(coded):
            expected = pixels[index * rows : (index + 1) * rows].tobytes()
            assert decode_lzw(strip, len(expected), len(expected)) == expected

    @pytest.mark.parametrize(
        ("codes", "decoded"),
        [
            ([CLEAR, 65, END], b"A"),
            ([65, 66, END], b"AB"),  # some writers leave the first Clear out
            ([CLEAR, 65, 66, 258, END], b"ABAB"),
            ([CLEAR, 65, 258, 259, 260, END], b"A" * 10),  # each code refers to the string it is about to make
            ([CLEAR, 65, 258, CLEAR, 66, END], b"AAAB"),
            ([CLEAR, CLEAR, END], b""),
            ([CLEAR, 65, 66, 67, 68], b"ABC"),  # no end code: as far as it is wanted
        ],
    )
    @pytest.mark.parametrize("repeats", [1, 200])
    def test_by_hand(self, codes: list[int], decoded: bytes, repeats: int) -> None:
        """Behind a long stretch, which is decoded all at once, as well as alone, code by code."""
        before = [CLEAR, *range(240)] * (repeats - 1) + [CLEAR] * (repeats > 1)
        whole = bytes(range(240)) * (repeats - 1)
        wanted = len(whole) + 3
        assert decode_lzw(lzw(before + codes), wanted, wanted + 100) == whole + decoded

    @pytest.mark.parametrize(
        ("codes", "decoded"),
        [
            ([67, END], b"ABC"),  # the last byte once more
            ([0, END], b"ABC"),
            ([68, END], b"ABCD"),
            ([67, 67, END], b"ABCC"),
        ],
    )
    @pytest.mark.parametrize("repeats", [0, 200])
    def test_one_byte_too_many_is_dropped_where_it_is_only_filling(
        self, codes: list[int], decoded: bytes, repeats: int
    ) -> None:
        whole = bytes(range(240)) * repeats
        coded = lzw([CLEAR, *range(240)] * repeats + [CLEAR, 65, 66, 67, *codes])
        assert decode_lzw(coded, len(whole) + 3, len(whole) + 3) == whole + decoded

    @pytest.mark.parametrize("codes", [[CLEAR, 65, 259, END], [CLEAR, 258, END], [CLEAR, 65, 66, 300, 67]])
    def test_codes_without_a_meaning_are_refused(self, codes: list[int]) -> None:
        for before in ([], [CLEAR, *range(240)] * 100):
            with pytest.raises(ImageError, match="LZW code without a meaning"):
                decode_lzw(lzw(before + codes), 10**5, 10**5)

    def test_the_old_style_is_named(self) -> None:
        codes = [CLEAR, 7, 8, 9, END]  # of 9 bits each, low bit first
        coded = sum(code << 9 * place for place, code in enumerate(codes)).to_bytes(6, "little")
        with pytest.raises(ImageError, match="old-style LZW compression, which is not read"):
            load_image(build({256: [3], 257: [1], 258: [8], 259: [5], 262: [1], 277: [1]}, [coded]))

    def test_an_end_code_that_was_not_widened_is_the_end(self) -> None:
        # 254 entries fill 9 bits, so that the end code takes 10; some writers notice it one code late.
        codes = [CLEAR, *range(253), 7]
        bits = "".join(f"{code:09b}" for code in codes)
        for end in ("0100000001", "100000001"):
            whole = bits + end
            coded = int(whole.ljust(-(-len(whole) // 8) * 8, "0"), 2).to_bytes(-(-len(whole) // 8))
            assert decode_lzw(coded, 254, 254) == bytes([*range(253), 7])

    def test_a_stretch_that_never_clears_its_table_is_refused(self) -> None:
        with pytest.raises(ImageError, match="LZW code without a meaning"):
            decode_lzw(bytes(20_000), 10**5, 10**5)

    def test_nothing_but_clears_decodes_to_nothing(self) -> None:
        assert decode_lzw(lzw([CLEAR] * 10**5), 10**4, 10**4) == b""
