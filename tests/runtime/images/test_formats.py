"""Headers, and files that are no image, not whole, or of a kind without a rule. Nothing is decoded here."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import ImageHeader, inspect_header, promised_pixels
from iqa_runtime.images.tiff_directory import exif_orientation

WIDTH, HEIGHT = 90, 61  # neither is a multiple of a JPEG block, nor of a byte of 1-bit pixels


def texture(mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg_with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Insert a segment behind SOI."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def scan_starts(data: bytes) -> list[int]:
    """Find where each scan begins: at its Huffman tables where it brings any."""
    scans = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    tables = [data.find(b"\xff\xc4", before, scan) for before, scan in zip([0, *scans], scans, strict=False)]
    return [scan if table < 0 else table for table, scan in zip(tables, scans, strict=True)]


def thumbnail_exif() -> bytes:
    """Make an APP1 body whose thumbnail is a JPEG of its own, end marker included."""
    thumbnail = encode(texture().resize((16, 12)), "JPEG")
    tags = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 38, 0x0202, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0" + b"II\x2a\0" + struct.pack("<I", 8) + tags + thumbnail


FILES = {
    "baseline.jpg": encode(texture(), "JPEG", quality=90),
    "gray.jpg": encode(texture("L"), "JPEG"),
    "progressive.jpg": encode(texture(), "JPEG", progressive=True, quality=90),
    "thumbnail.jpg": jpeg_with_segment(encode(texture(), "JPEG"), 0xE1, thumbnail_exif()),
    "restarts.jpg": encode(texture(), "JPEG", restart_marker_blocks=2),
    "rgb.png": encode(texture(), "PNG"),
    "palette.png": encode(texture("P"), "PNG"),
    "lossy.webp": encode(texture(), "WEBP"),
    "lossless.webp": encode(texture(), "WEBP", lossless=True),
    "extended.webp": encode(texture("RGBA"), "WEBP"),
    "rgb.bmp": encode(texture(), "BMP"),
    "one_bit.bmp": encode(texture("1"), "BMP"),
    "raw.tif": encode(texture(), "TIFF"),
    "lzw.tif": encode(texture(), "TIFF", compression="tiff_lzw"),
    "deflate.tif": encode(texture("L"), "TIFF", compression="tiff_adobe_deflate"),
    "jpeg.tif": encode(texture(), "TIFF", compression="jpeg"),
    "rgb.avif": encode(texture(), "AVIF", speed=10),
    "alpha.avif": encode(texture("RGBA"), "AVIF", speed=10),
    "rgb.jp2": encode(texture(), "JPEG2000"),
    "gray.j2k": encode(texture("L"), "JPEG2000", no_jp2=True),
    "palette.gif": encode(texture("P"), "GIF"),
    "few_colors.gif": encode(texture("P").quantize(5), "GIF", interlace=0),
    "raw.ppm": encode(texture(), "PPM"),
    "raw.pgm": encode(texture("L"), "PPM"),
    "raw.pbm": encode(texture("1"), "PPM"),
    "text.ppm": b"P3 %d %d 255\n" % (WIDTH, HEIGHT) + b"\n".join(b"%d" % byte for byte in texture().tobytes()) + b"\n",
}
FORMATS = {
    **{"jpg": "JPEG", "png": "PNG", "webp": "WebP", "bmp": "BMP", "tif": "TIFF"},
    **{"gif": "GIF", "avif": "AVIF", "jp2": "JPEG 2000", "j2k": "JPEG 2000"},
    **{"ppm": "PNM", "pgm": "PNM", "pbm": "PNM"},
}


@pytest.mark.parametrize("name", FILES)
def test_format_and_size_come_from_the_content(name: str) -> None:
    header = inspect_header(FILES[name])
    assert (header.format, header.width, header.height) == (FORMATS[name.rsplit(".")[-1]], WIDTH, HEIGHT)


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_promised_by_the_header(name: str) -> None:
    assert promised_pixels(FILES[name]) == WIDTH * HEIGHT


@pytest.mark.parametrize("name", ["gray.jpg", "thumbnail.jpg", "rgb.png"])
def test_a_promise_is_read_without_the_rest_of_a_large_file(name: str) -> None:
    assert promised_pixels(FILES[name][: len(FILES[name]) // 2]) == WIDTH * HEIGHT


def test_what_is_no_image_promises_nothing() -> None:
    for data in (b"", b"none", b"\xff\xd8\xff\xda", b"\x89PNG\r\n\x1a\n", FILES["rgb.bmp"][:20]):
        assert promised_pixels(data) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = FILES[name]
    for cut in [len(data) * step // 20 for step in range(20)]:
        with pytest.raises(ImageError):
            inspect_header(data[:cut])


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".tif")])
def test_a_file_without_its_last_byte_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="truncated"):
        inspect_header(FILES[name][:-1])


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".tif")])
def test_bytes_after_the_image_are_ignored(name: str) -> None:
    assert inspect_header(FILES[name] + b"\xff\xd8motion photo") == inspect_header(FILES[name])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\0\0\0\x20ftypisom" + bytes(20), "video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"P7\nWIDTH 2\n", "Netpbm PAM"),
        (b"PK\x03\x04", "ZIP"),
        (b"<!DOCTYPE html><p>404 Not Found", "HTML"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"plain text", "no image of a known format"),
        (bytes(100), "no image of a known format"),
    ],
)
def test_another_format_is_named(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        inspect_header(data)


@pytest.mark.parametrize("name", ["baseline.jpg", "rgb.png", "lossy.webp", "rgb.bmp", "raw.tif"])
@pytest.mark.parametrize("length", [4, 8, 11, 20])
def test_a_header_alone_is_refused(name: str, length: int) -> None:
    with pytest.raises(ImageError):
        inspect_header(FILES[name][:length])


class TestJpeg:
    def test_the_end_marker_of_a_thumbnail_is_not_the_end(self) -> None:
        data = FILES["thumbnail.jpg"]
        inside = data.index(b"\xff\xd9") + 2
        assert inside < len(data)
        for cut in (inside, inside + 100, len(data) - 2):
            with pytest.raises(ImageError, match="truncated JPEG"):
                inspect_header(data[:cut])

    def test_a_cut_file_closed_with_an_end_marker_is_caught_by_its_restart_markers(self) -> None:
        data = FILES["restarts.jpg"]
        with pytest.raises(ImageError, match="image data is missing"):
            inspect_header(data[: len(data) * 3 // 4] + b"\xff\xd9")

    def test_a_lost_block_is_caught_by_the_restart_markers(self) -> None:
        data = FILES["restarts.jpg"]
        first, third = data.index(b"\xff\xd1"), data.index(b"\xff\xd3")
        with pytest.raises(ImageError, match="image data is missing"):
            inspect_header(data[:first] + data[third:])

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("interval", [1, 3, 7])
    def test_whole_files_with_restart_markers_pass(
        self, mode: str, progressive: bool, subsampling: str, interval: int
    ) -> None:
        options: dict[str, object] = {"progressive": progressive, "restart_marker_blocks": interval}
        if mode == "RGB":
            options["subsampling"] = subsampling
        data = encode(texture(mode), "JPEG", **options)
        assert b"\xff\xd0" in data
        assert inspect_header(data).width == WIDTH

    def test_a_progressive_file_without_its_later_components_is_refused(self) -> None:
        data = encode(texture(), "JPEG", subsampling="4:4:4", progressive=False)
        scan = data.index(b"\xff\xda")
        one_component = data[: scan + 2] + struct.pack(">H6B", 8, 1, 1, 0, 0, 63, 0) + data[scan + 14 :]
        with pytest.raises(ImageError, match="before the whole image"):
            inspect_header(one_component)

    @pytest.mark.parametrize(("mode", "scans"), [("RGB", 10), ("L", 6), ("CMYK", 18)])
    def test_a_progressive_file_without_its_later_scans_is_refused(self, mode: str, scans: int) -> None:
        data = encode(texture(mode), "JPEG", progressive=True)
        starts = scan_starts(data)
        assert len(starts) == scans
        for start in starts[1:]:
            with pytest.raises(ImageError, match="before the whole image"):
                inspect_header(data[:start] + b"\xff\xd9")

    @pytest.mark.parametrize("skipped", range(10))
    def test_a_progressive_file_without_one_of_its_scans_is_refused(self, skipped: int) -> None:
        data = encode(texture(), "JPEG", progressive=True)
        starts = [*scan_starts(data), len(data) - 2]
        with pytest.raises(ImageError, match="before the whole image"):
            inspect_header(data[: starts[skipped]] + data[starts[skipped + 1] :])

    def test_another_image_inside_the_image_data_is_refused(self) -> None:
        data = FILES["baseline.jpg"]
        with pytest.raises(ImageError, match="no valid marker"):
            inspect_header(data[: len(data) // 2] + data)

    def test_garbage_between_scans_is_refused(self) -> None:
        data = FILES["progressive.jpg"]
        table = data.index(b"\xff\xda", scan_starts(data)[2])  # behind its Huffman table
        with pytest.raises(ImageError, match="no valid marker"):
            inspect_header(data[:table] + b"\0\0\0" + data[table:])

    def test_fill_bytes_before_a_marker_are_allowed(self) -> None:
        data = FILES["baseline.jpg"]
        table = data.index(b"\xff\xdb")
        assert inspect_header(data[:table] + b"\xff\xff" + data[table:]).width == WIDTH

    @pytest.mark.parametrize(
        ("marker", "depth", "says"), [(0xC3, 8, "lossless"), (0xC9, 8, "arithmetic"), (0xC1, 12, "12 bits")]
    )
    def test_kinds_no_decoder_reads_are_named(self, marker: int, depth: int, says: str) -> None:
        data = bytearray(FILES["baseline.jpg"])
        frame = data.index(b"\xff\xc0")
        data[frame + 1], data[frame + 4] = marker, depth
        with pytest.raises(ImageError, match=says):
            inspect_header(bytes(data))

    def test_inks_of_unknown_polarity_are_refused(self) -> None:
        data = encode(texture("CMYK"), "JPEG")
        assert inspect_header(data).width == WIDTH
        with pytest.raises(ImageError, match="Adobe marker"):
            inspect_header(data.replace(b"Adobe", b"Nobdy"))

    def test_a_hostile_number_of_scans_is_refused(self) -> None:
        data = FILES["gray.jpg"]
        scan = data.index(b"\xff\xda")
        with pytest.raises(ImageError, match="scans"):
            inspect_header(data[:-2] + data[scan:-2] * 100 + b"\xff\xd9")

    def test_zero_height_is_refused(self) -> None:
        data = bytearray(FILES["baseline.jpg"])
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 7] = b"\0\0"
        with pytest.raises(ImageError, match="90 x 0 pixels"):
            inspect_header(bytes(data))


class TestPng:
    def test_every_flipped_byte_is_caught(self) -> None:
        data = FILES["palette.png"]
        for position in range(0, len(data), 37):
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            with pytest.raises(ImageError):
                inspect_header(bytes(damaged))

    def test_an_animation_is_refused(self) -> None:
        frames = [texture(), texture().rotate(180)]
        with pytest.raises(ImageError, match="animated PNG"):
            inspect_header(encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))

    def test_an_animation_of_the_image_alone_is_none(self) -> None:
        data = FILES["rgb.png"]
        control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
        chunks = png_chunk(b"acTL", struct.pack(">II", 1, 0)) + png_chunk(b"fcTL", control)
        assert inspect_header(data[:33] + chunks + data[33:]) == inspect_header(data)
        with pytest.raises(ImageError, match="animated PNG"):  # the one frame is another image
            inspect_header(
                encode(texture(), "PNG", save_all=True, default_image=True, append_images=[texture().rotate(180)])
            )

    def test_no_image_data_is_refused(self) -> None:
        data = FILES["rgb.png"]
        with pytest.raises(ImageError, match="no image data"):
            inspect_header(data[:33] + png_chunk(b"IEND", b""))

    @pytest.mark.parametrize("kind", [b"ABCD", b"CgBI", b"aBCD"])
    def test_an_unknown_chunk_is_refused_if_the_pixels_depend_on_it(self, kind: bytes) -> None:
        data = FILES["rgb.png"]
        other = data[:33] + png_chunk(kind, b"x") + data[33:]
        if kind == b"aBCD":
            assert inspect_header(other) == inspect_header(data)
        else:
            with pytest.raises(ImageError, match="an unknown chunk"):
                inspect_header(other)


class TestWebp:
    def test_an_animation_is_refused(self) -> None:
        frames = [texture(), texture().rotate(180)]
        with pytest.raises(ImageError, match="animated WebP"):
            inspect_header(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))

    def test_a_canvas_of_another_size_is_refused(self) -> None:
        data = bytearray(FILES["extended.webp"])
        assert data[12:16] == b"VP8X"
        data[24] ^= 1
        with pytest.raises(ImageError, match="size its header says"):
            inspect_header(bytes(data))

    @pytest.mark.parametrize("case", ["first of two", "not announced", "no header"])
    def test_the_first_orientation_counts_if_it_is_announced(self, case: str) -> None:
        first, second = (self.exif_chunk(orientation) for orientation in (6, 3))
        data = encode(texture(), "WEBP", exif=first[8:])
        image = data[12:30] + data[30 : data.index(b"EXIF")]
        if case == "first of two":
            chunks = image + first + second
        elif case == "not announced":
            chunks = image[:8] + b"\0" + image[9:] + first
        else:
            chunks = image[18:] + first
        data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
        with Image.open(io.BytesIO(data)) as opened:
            turned = ImageOps.exif_transpose(opened).size == (HEIGHT, WIDTH)
        assert turned == (case == "first of two")
        assert inspect_header(data).orientation == (6 if turned else 1)

    @staticmethod
    def exif_chunk(orientation: int) -> bytes:
        exif = Image.Exif()
        exif[274] = orientation
        body = exif.tobytes()
        return b"EXIF" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    @pytest.mark.parametrize(("mode", "alpha"), [("RGB", "none"), ("RGBA", "straight")])
    @pytest.mark.parametrize("lossless", [False, True])
    def test_alpha_is_told(self, mode: str, alpha: str, lossless: bool) -> None:
        assert inspect_header(encode(texture(mode), "WEBP", lossless=lossless)).alpha == alpha


class TestBmp:
    @pytest.mark.parametrize(("field", "value"), [(14, 16), (28, 2), (30, 4)])
    def test_unknown_kinds_are_refused(self, field: int, value: int) -> None:
        data = bytearray(FILES["rgb.bmp"])
        data[field] = value
        with pytest.raises(ImageError, match="a BMP"):
            inspect_header(bytes(data))

    def test_a_negative_width_is_refused(self) -> None:
        data = FILES["rgb.bmp"]
        with pytest.raises(ImageError, match="-90 x 61"):
            inspect_header(data[:18] + struct.pack("<i", -WIDTH) + data[22:])

    def test_run_lengths_must_reach_their_end_code(self) -> None:
        runs = (bytes([WIDTH, 7, 0, 0]) * HEIGHT)[:-2] + b"\0\1"
        header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(runs), 0, 0, 256, 0)
        offset = 14 + len(header) + 1024
        data = b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset) + header + bytes(1024) + runs
        assert inspect_header(data) == ImageHeader(format="BMP", width=WIDTH, height=HEIGHT)
        with pytest.raises(ImageError, match="truncated BMP"):
            inspect_header(data[:-1] + b"\0")


class TestTiff:
    def test_several_pages_are_refused(self) -> None:
        data = encode(texture(), "TIFF", save_all=True, append_images=[texture()])
        with pytest.raises(ImageError, match="several pages"):
            inspect_header(data)

    def test_a_thumbnail_page_is_ignored_and_a_first_thumbnail_refused(self) -> None:
        buffer = io.BytesIO()
        with TiffImagePlugin.AppendingTiffWriter(buffer, new=True) as writer:
            texture().save(writer, "TIFF")
            writer.newFrame()
            texture().resize((20, 14)).save(writer, "TIFF", tiffinfo={254: 1})
        data = buffer.getvalue()
        assert inspect_header(data).width == WIDTH
        with pytest.raises(ImageError, match="raw"):
            inspect_header(encode(texture(), "TIFF", tiffinfo={254: 1}))

    def test_signed_samples_are_refused(self) -> None:
        with pytest.raises(ImageError, match="signed"):
            inspect_header(encode(texture("L").convert("I"), "TIFF"))

    @pytest.mark.parametrize("entries", [4097, 65535])
    def test_a_directory_of_absurd_length_is_refused(self, entries: int) -> None:
        with pytest.raises(ImageError, match=f"directory of {entries} tags"):
            inspect_header(b"II\x2a\0" + struct.pack("<IH", 8, entries) + bytes(12 * entries + 4))

    def test_strips_over_one_another_are_refused(self) -> None:
        data = encode(texture("L"), "TIFF", tiffinfo={278: 1})
        first, length = data.index(struct.pack("<HH", 273, 4)), WIDTH
        (places,) = struct.unpack_from("<I", data, first + 8)
        assert len(data) < HEIGHT * length * 2
        same = struct.pack("<I", 8) * HEIGHT
        sizes = data.index(struct.pack("<HH", 279, 4))
        (lengths,) = struct.unpack_from("<I", data, sizes + 8)
        changed = bytearray(data)
        changed[places : places + len(same)] = same
        changed[lengths : lengths + len(same)] = struct.pack("<I", 2 * length) * HEIGHT
        with pytest.raises(ImageError, match=r"take \d+ of \d+ bytes"):
            inspect_header(bytes(changed))

    @pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
    def test_fax_compression_is_named_and_refused(self, compression: str) -> None:
        with pytest.raises(ImageError, match=r"fax compression, which is not read; convert it .* magick"):
            inspect_header(encode(texture("1"), "TIFF", compression=compression))

    def test_other_compressions_are_refused(self) -> None:
        named = {
            6: "old-style JPEG",
            34712: "JPEG 2000",
            50001: "WebP",
            50002: "JPEG XL",
            34887: "LERC",
            9: "compression 9",
        }
        plain = encode(texture(), "TIFF", compression="packbits")
        for number, says in named.items():
            data = plain.replace(struct.pack("<HHIH", 259, 3, 1, 32773), struct.pack("<HHIH", 259, 3, 1, number))
            with pytest.raises(ImageError, match=says):
                inspect_header(data)

    def test_cielab_is_named_and_refused(self) -> None:
        with pytest.raises(ImageError, match=r"CIELab colours, which are not read; convert it .* magick"):
            inspect_header(encode(texture("LAB"), "TIFF"))

    @pytest.mark.parametrize("tag", [258, 259, 262, 273, 317, 320])
    @pytest.mark.parametrize(("place", "flip"), [(2, 3 ^ 11), (3, 0x20), (4, 1)])
    def test_a_tag_that_would_count_for_nothing_is_damage(self, tag: int, place: int, flip: int) -> None:
        data = bytearray(encode(texture("P"), "TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
        (start,) = struct.unpack_from("<I", data, 4)
        entries = range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12)
        (entry,) = (entry for entry in entries if struct.unpack_from("<H", data, entry)[0] == tag)
        data[entry + place] ^= flip
        with pytest.raises(ImageError, match=f"tag {tag}|palette|truncated"):
            inspect_header(bytes(data))

    def test_an_undeclared_fourth_channel_is_refused(self) -> None:
        with pytest.raises(ImageError, match="not declared to be alpha"):
            inspect_header(encode(texture("RGBX"), "TIFF"))

    def test_an_endless_chain_of_pages_ends(self) -> None:
        data = bytearray(encode(texture("L"), "TIFF", tiffinfo={254: 0}))
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        thumbnail = len(data)
        struct.pack_into("<I", data, start + 2 + 12 * count, thumbnail)
        data += struct.pack("<HHHIII", 1, 254, 4, 1, 1, thumbnail)
        with pytest.raises(ImageError, match="no end"):
            inspect_header(bytes(data))

    def test_a_tag_of_absurd_length_is_refused(self) -> None:
        tag = struct.pack("<HHII", 273, 4, 0xFFFFFFFF, 0)
        with pytest.raises(ImageError, match="4294967295 values"):
            inspect_header(b"II\x2a\0" + struct.pack("<IH", 8, 1) + tag + bytes(4))

    def test_missing_strips_are_refused(self) -> None:
        data = encode(texture("L"), "TIFF")
        taller = data.replace(struct.pack("<HHII", 278, 4, 1, HEIGHT), struct.pack("<HHII", 278, 4, 1, HEIGHT - 1))
        assert taller != data
        with pytest.raises(ImageError, match="1 of 2 blocks"):
            inspect_header(taller)

    def test_compression_tables_must_be_in_the_file(self) -> None:
        data = FILES["jpeg.tif"]
        tables = data.index(struct.pack("<HH", 347, 7))
        length, where = struct.unpack_from("<II", data, tables + 4)
        beyond = len(data) - length + 1
        assert where < beyond
        with pytest.raises(ImageError, match="truncated"):
            inspect_header(data[: tables + 8] + struct.pack("<I", beyond) + data[tables + 12 :])


class TestExif:
    def block(self, orientation: int, order: str = "<") -> bytes:
        mark = {"<": b"II", ">": b"MM"}[order]
        return mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_both_byte_orders(self, order: str) -> None:
        assert exif_orientation(self.block(6, order)) == 6

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("kind", "code"),
        [
            (1, "B"),
            (3, "H"),
            (4, "I"),
            (6, "b"),
            (7, "B"),
            (8, "h"),
            (9, "i"),
            (13, "I"),
            (16, "Q"),
            (17, "q"),
            (18, "Q"),
        ],
    )
    def test_every_integer_type(self, kind: int, code: str, order: str) -> None:
        value = struct.pack(f"{order}{code}", 6)
        far = len(value) > 4
        inside = struct.pack(f"{order}I", 26) if far else value.ljust(4, b"\0")
        mark = {"<": b"II", ">": b"MM"}[order]
        entry = struct.pack(f"{order}HHI", 274, kind, 1) + inside
        data = mark + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4) + value * far
        assert exif_orientation(data) == 6

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("kind", "code", "values", "expected"),
        [
            (5, "II", (6, 1), 6),
            (5, "II", (12, 2), 6),
            (5, "II", (6, 5), 1),
            (5, "II", (6, 0), 1),
            (10, "ii", (6, 1), 6),
            (10, "ii", (-12, -2), 6),
            (10, "ii", (-6, 1), 1),
            (11, "f", (6.0,), 6),
            (11, "f", (6.5,), 1),
            (11, "f", (float("nan"),), 1),
            (12, "d", (6.0,), 6),
            (12, "d", (float("inf"),), 1),
            (2, "4s", (b"6",), 1),
        ],
    )
    def test_whole_numbers_of_other_types(
        self, kind: int, code: str, values: tuple[Any, ...], expected: int, order: str
    ) -> None:
        value = struct.pack(f"{order}{code}", *values)
        form, entry = f"{order}HHI", struct.pack(f"{order}HHI", 274, kind, 1)
        mark = {"<": b"II", ">": b"MM"}[order]
        far = len(value) > 4
        block = mark + struct.pack(f"{order}HIH", 42, 8, 1) + entry
        block += (struct.pack(f"{order}I", 26) if far else value) + bytes(4) + value * far
        assert exif_orientation(block) == expected
        # In the directory of a page, of 3 x 2 pixels of gray.
        tags = [(256, 3), (257, 2), (258, 8), (259, 1), (262, 1), (273, 134), (277, 1), (278, 2), (279, 6)]
        entries = [struct.pack(form + "I", tag, 4, 1, number) for tag, number in tags]
        entries.insert(6, entry + (struct.pack(f"{order}I", 140) if far else value))
        page = mark + struct.pack(f"{order}HIH", 42, 8, len(entries)) + b"".join(entries) + bytes(4)
        page += bytes(134 - len(page)) + bytes(range(6)) + value
        assert inspect_header(page).orientation == expected

    def test_a_negative_value_is_upright(self) -> None:
        data = self.block(6).replace(struct.pack("<HHIH", 274, 3, 1, 6), struct.pack("<HHIh", 274, 8, 1, -6))
        assert exif_orientation(data) == 1

    @pytest.mark.parametrize("count", [2, 100, 65535])
    def test_a_directory_that_promises_too_much_still_counts(self, count: int) -> None:
        data = bytearray(self.block(6))
        struct.pack_into("<H", data, 8, count)
        assert exif_orientation(bytes(data)) == 6
        other = struct.pack("<HHII", 271, 2, 1 << 30, 1 << 30)  # a maker's name that lies nowhere
        assert exif_orientation(bytes(data[:10]) + other + bytes(data[10:])) == 6

    def test_the_first_value_of_many_counts(self) -> None:
        entry = struct.pack("<HHI", 274, 3, 1)
        assert exif_orientation(self.block(6).replace(entry, struct.pack("<HHI", 274, 3, 2))) == 6

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_values_without_a_meaning_are_upright(self, orientation: int) -> None:
        assert exif_orientation(self.block(orientation)) == 1

    def test_damaged_metadata_is_upright(self) -> None:
        whole = self.block(6)
        assert [exif_orientation(whole[:cut]) for cut in range(len(whole) - 8)] == [1] * (len(whole) - 8)
        assert exif_orientation(b"XX" + whole[2:]) == 1

    def test_the_first_block_counts(self) -> None:
        first, second = (b"Exif\0\0" + self.block(value) for value in (6, 3))
        data = jpeg_with_segment(jpeg_with_segment(FILES["baseline.jpg"], 0xE1, second), 0xE1, first)
        assert inspect_header(data).orientation == 6

    @pytest.mark.parametrize("parts", [(0,), (4,), (10, 19), (0, 22)])
    def test_a_block_may_go_on_in_the_next_segment(self, parts: tuple[int, ...]) -> None:
        block, data = self.block(6), FILES["baseline.jpg"]
        for start, end in reversed(list(zip((0, *parts), (*parts, len(block)), strict=True))):
            data = jpeg_with_segment(data, 0xE1, b"Exif\0\0" + block[start:end])
        with Image.open(io.BytesIO(data)) as image:
            assert ImageOps.exif_transpose(image).size == (HEIGHT, WIDTH)
        assert inspect_header(data).orientation == 6

    def test_a_block_behind_the_image_data_does_not_count(self) -> None:
        behind = jpeg_with_segment(FILES["baseline.jpg"], 0xE1, b"Exif\0\0" + self.block(6))
        length = len(behind) - len(FILES["baseline.jpg"])
        data = FILES["baseline.jpg"][:-2] + behind[2 : 2 + length] + b"\xff\xd9"
        assert inspect_header(data).orientation == 1
