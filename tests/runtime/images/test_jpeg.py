"""JPEG as cameras write it: odd but harmless markers, filling, rare samplings; and damage inside each of them."""

import io
import random
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime.errors import ImageError
from iqa_runtime.images.jpeg_coded import follow_scans
from iqa_runtime.images.jpeg_markers import DHT, SOS, read_markers
from iqa_runtime.images.loading import load_image

PHOTOGRAPH = Path(__file__).parents[3] / "examples" / "photographs" / "stream.jpg"
INKS_TOLERANCE = 2  # levels: OpenCV turns inks into RGB with a shift where Pillow divides by 255
DC_SYMBOLS = bytes(range(12))
AC_SYMBOLS = bytes([0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))])


def photograph(mode: str = "RGB", size: tuple[int, int] = (150, 101)) -> Image.Image:
    with Image.open(PHOTOGRAPH) as image:
        return image.resize(size).convert(mode)


def encode(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 90} | options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + segment(marker, body) + data[2:]


def without_huffman_tables(data: bytes) -> bytes:
    """Leave the tables out, as Motion JPEG does: they are those of Annex K.3, which libjpeg writes, too."""
    position = 2
    while data[position + 1] != SOS:
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if data[position + 1] == DHT:
            data, end = data[:position] + data[end:], position
        position = end
    return data


def block_bits(generator: np.random.Generator) -> str:
    """Code one block of a few random coefficients with codes of 4 and 8 bits."""

    def number(value: int) -> str:
        size = abs(value).bit_length()
        return f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""

    first = int(generator.integers(-60, 60))
    bits = f"{abs(first).bit_length():04b}" + number(first)
    place = 1
    for run in generator.integers(0, 20, 4):
        place += int(run) + 1
        if place > 64:
            place -= int(run) + 1
            break
        value = int(generator.integers(1, 30)) * (1 if run % 2 else -1)
        bits += f"{AC_SYMBOLS.index(0xF0):08b}" * (int(run) // 16)
        bits += f"{AC_SYMBOLS.index(int(run) % 16 << 4 | abs(value).bit_length()):08b}" + number(value)
    return bits + f"{AC_SYMBOLS.index(0):08b}" * (place < 64)


def coded(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")


def jpeg(size: tuple[int, int], sampling: list[tuple[int, int]], *, restart: int = 0, filling: bytes = b"") -> bytes:
    """Build a baseline file of any sampling by hand, since encoders write only the usual ones."""
    generator = np.random.default_rng(0)
    (width, height), h_max, v_max = size, max(h for h, _ in sampling), max(v for _, v in sampling)
    units = -(-width // (8 * h_max)) * -(-height // (8 * v_max))
    blocks = sum(h * v for h, v in sampling) if len(sampling) > 1 else 1
    if len(sampling) == 1:
        units = -(-width // 8) * -(-height // 8)
    scan, intervals = b"", -(-units // restart) if restart else 1
    for index in range(intervals):
        count = min(restart, units - index * restart) if restart else units
        bits = "".join(block_bits(generator) for _ in range(count * blocks))
        scan += coded(bits) + filling + (bytes([0xFF, 0xD0 + index % 8]) if index < intervals - 1 else b"")
    ids = range(1, len(sampling) + 1)
    frame = struct.pack(">BHHB", 8, height, width, len(sampling))
    frame += b"".join(bytes([name, h << 4 | v, 0]) for name, (h, v) in zip(ids, sampling, strict=True))
    parts = [b"\xff\xd8", segment(0xEE, b"Adobe\0\x64\0\0\0\0\2") if len(sampling) == 4 else b""]
    parts += [segment(0xDB, b"\0" + bytes(range(3, 67))), segment(0xC0, frame)]
    parts += [segment(0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + DC_SYMBOLS)]
    parts += [segment(0xC4, b"\x10" + bytes([0] * 7 + [len(AC_SYMBOLS)] + [0] * 8) + AC_SYMBOLS)]
    parts += [segment(0xDD, struct.pack(">H", restart)) if restart else b""]
    head = bytes([len(sampling), *(value for name in ids for value in (name, 0)), 0, 63, 0])
    return b"".join([*parts, segment(SOS, head), scan, b"\xff\xd9"])


CLEAN = encode(photograph(), exif=b"Exif\0\0" + b"II\x2a\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, 1, 0, 0))
JFIF = CLEAN.index(b"JFIF\0")
TABLE = CLEAN.index(b"\xff\xdb")
SCAN = CLEAN.index(b"\xff\xda")
ADOBE = b"Adobe\0\x64\0\0\0\0"
ODD_FILES = {
    "JFIF version 2.1": CLEAN[: JFIF + 5] + b"\2\1" + CLEAN[JFIF + 7 :],
    "JFIF version 0.0": CLEAN[: JFIF + 5] + b"\0\0" + CLEAN[JFIF + 7 :],
    "JFIF with a thumbnail that is missing": CLEAN[: JFIF + 12] + b"\x50\x50" + CLEAN[JFIF + 14 :],
    "a short JFIF": with_segment(CLEAN, 0xE0, b"JFIF\0\1"),
    "a JFIF extension of an unknown kind": with_segment(CLEAN, 0xE0, b"JFXX\0\x77abc"),
    "an empty ICC profile": with_segment(CLEAN, 0xE2, b"ICC_PROFILE\0"),
    "an ICC profile numbered 0 of 0": with_segment(CLEAN, 0xE2, b"ICC_PROFILE\0\0\0profile"),
    "an ICC profile numbered 3 of 2": with_segment(CLEAN, 0xE2, b"ICC_PROFILE\0\3\2profile"),
    "an Adobe transform that means nothing": with_segment(CLEAN, 0xEE, ADOBE + b"\x09"),
    "a short Adobe marker": with_segment(CLEAN, 0xEE, b"Adobe\0"),
    "an EXIF block cut short": with_segment(CLEAN, 0xE1, b"Exif\0\0II\x2a\0"),
    "an EXIF block with zeros behind": with_segment(CLEAN, 0xE1, b"Exif\0\0MM\0\x2a\0\0\0\x08" + bytes(300)),
    "zeros before a table": CLEAN[:TABLE] + bytes(3) + CLEAN[TABLE:],
    "text before a table": CLEAN[:TABLE] + b"made by" + CLEAN[TABLE:],
    "a stuffed byte before a table": CLEAN[:TABLE] + b"\xff\0" + CLEAN[TABLE:],
    "a restart marker before a table": CLEAN[:TABLE] + b"\xff\xd0" + CLEAN[TABLE:],
    "zeros before the scan": CLEAN[:SCAN] + bytes(2) + CLEAN[SCAN:],
    "fill bytes before every marker": CLEAN[:2] + b"\xff" + CLEAN[2:TABLE] + b"\xff\xff" + CLEAN[TABLE:],
    "scan fields 0, 0, 0": CLEAN[: SCAN + 11] + bytes(3) + CLEAN[SCAN + 14 :],
    "scan fields 0, 0, 255": CLEAN[: SCAN + 11] + b"\0\0\xff" + CLEAN[SCAN + 14 :],
    "zeros behind the end": CLEAN + bytes(4096),
    "zeros before the end": CLEAN[:-2] + bytes(5) + CLEAN[-2:],
    "fill bytes before the end": CLEAN[:-2] + b"\xff\xff" + CLEAN[-2:],
    "stuffed fill bytes before the end": CLEAN[:-2] + b"\xff\0\xff\0" + CLEAN[-2:],
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_what_says_nothing_about_the_picture_is_passed_over(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ODD_FILES[name] != CLEAN
    np.testing.assert_array_equal(load_image(ODD_FILES[name]), by_pillow(CLEAN))
    assert capfd.readouterr().err == ""


def with_identifiers(data: bytes, identifiers: tuple[int, int, int]) -> bytes:
    """Call the components of a file with one scan something else."""
    named = bytearray(data)
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    named[frame + 10 : frame + 19 : 3] = bytes(identifiers)
    named[scan + 5 : scan + 11 : 2] = bytes(identifiers)
    return bytes(named)


@pytest.mark.parametrize("identifiers", [(1, 1, 1), (1, 2, 2), (1, 1, 2), (0, 1, 0), (7, 7, 7), (0, 1, 2), (9, 5, 3)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("restart", [0, 3])
def test_components_may_go_by_any_identifiers(
    identifiers: tuple[int, int, int], subsampling: str, restart: int
) -> None:
    whole = encode(photograph(), subsampling=subsampling, restart_marker_blocks=restart)
    data = with_identifiers(whole, identifiers)
    np.testing.assert_array_equal(load_image(data), by_pillow(data))
    filled = data[:-2] + bytes(5) + data[-2:]  # its codes are followed one by one
    np.testing.assert_array_equal(load_image(filled), by_pillow(data))
    np.testing.assert_array_equal(by_pillow(data), by_pillow(whole))


def test_components_of_one_identifier_in_scans_of_their_own_are_refused() -> None:
    # Each such scan would be of the first of them.
    whole = encode(photograph(), progressive=True)
    data = bytearray(whole)
    frame = whole.index(b"\xff\xc2")
    data[frame + 10 : frame + 19 : 3] = bytes([1, 1, 1])
    with pytest.raises(ImageError, match="unknown components"):
        load_image(bytes(data))
    for scan in (match.start() for match in re.finditer(b"\xff\xda", whole)):
        count = whole[scan + 4]
        data[scan + 5 : scan + 5 + 2 * count : 2] = bytes([1] * count)
    with pytest.raises(ImageError, match="before the whole image was coded"):
        load_image(bytes(data))


@pytest.mark.parametrize("transform", [0, 1])
def test_the_adobe_marker_tells_rgb_from_ycbcr(transform: int) -> None:
    jfif = CLEAN[:2] + CLEAN[CLEAN.index(b"\xff\xe1") :]
    data = with_segment(jfif, 0xEE, ADOBE + bytes([transform]))
    np.testing.assert_array_equal(load_image(data), by_pillow(data))
    assert np.array_equal(load_image(data), by_pillow(CLEAN)) == (transform == 1)


@pytest.mark.parametrize("marker", [0x02, 0x4F, 0xF0, 0xD8])
def test_markers_without_a_meaning_are_damage(marker: int) -> None:
    with pytest.raises(ImageError, match="no valid marker"):
        load_image(with_segment(CLEAN, marker, bytes(4)))


@pytest.mark.parametrize("factors", [0x11, 0x22, 0x21, 0x13, 0x41, 0x44])
@pytest.mark.parametrize("progressive", [False, True])
def test_gray_of_any_sampling_is_the_same(factors: int, progressive: bool) -> None:
    whole = encode(photograph("L"), progressive=progressive)
    data = bytearray(whole)
    data[whole.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 11] = factors
    np.testing.assert_array_equal(load_image(bytes(data)), by_pillow(whole))


def test_a_size_that_the_coded_data_cannot_fill_is_refused_undecoded() -> None:
    data = bytearray(CLEAN)
    struct.pack_into(">HH", data, CLEAN.index(b"\xff\xc0") + 5, 12_000, 12_000)
    with pytest.raises(ImageError, match=r"image data is missing \(\d+ bytes"):
        read_markers(bytes(data))


class TestRareSamplings:
    SAMPLINGS = (
        *(
            [(h, v), (1, 1), (1, 1)]
            for h, v in ((4, 2), (1, 4), (2, 4), (3, 1), (3, 2), (1, 3), (2, 3), (4, 1), (2, 2))
        ),
        [(2, 2), (2, 1), (1, 1)],
        [(2, 2), (1, 2), (2, 1)],
        [(1, 1), (2, 2), (1, 1)],
        [(3, 1), (1, 1), (3, 1)],
        [(2, 1), (2, 1), (2, 1)],
        [(4, 1), (2, 1), (2, 1)],
    )
    INKS = (
        [(1, 1)] * 4,
        [(2, 2), (1, 1), (1, 1), (2, 2)],
        [(2, 2), (1, 1), (1, 1), (1, 1)],
        [(3, 1), (1, 1), (1, 1), (3, 1)],
        [(1, 1), (1, 1), (1, 1), (2, 2)],
    )

    @pytest.mark.parametrize("restart", [0, 1, 3])
    @pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
    def test_as_pillow(self, sampling: list[tuple[int, int]], restart: int) -> None:
        data = jpeg((75, 66), sampling, restart=restart)
        np.testing.assert_array_equal(load_image(data), by_pillow(data))

    @pytest.mark.parametrize("sampling", INKS, ids=str)
    def test_inks_as_pillow(self, sampling: list[tuple[int, int]]) -> None:
        data = jpeg((75, 66), sampling)
        assert np.abs(load_image(data).astype(int) - by_pillow(data)).max() <= INKS_TOLERANCE

    @pytest.mark.parametrize("sampling", [*SAMPLINGS[:4], *INKS], ids=str)
    @pytest.mark.parametrize("restart", [0, 2])
    def test_missing_units_are_noticed(self, sampling: list[tuple[int, int]], restart: int) -> None:
        data = jpeg((75, 66), sampling, restart=restart)
        for lost in (3, 20, 200):
            with pytest.raises(ImageError):
                load_image(data[: -2 - lost] + b"\xff\xd9")

    def test_damage_is_noticed(self) -> None:
        data, generator, refused = jpeg((300, 200), [(4, 2), (1, 1), (1, 1)]), random.Random(0), 0
        start = data.index(b"\xff\xda") + 14
        for _ in range(20):
            place = generator.randrange(start, len(data) - 100)
            try:
                load_image(data[:place] + bytes(64) + data[place + 64 :])
            except ImageError:
                refused += 1
        assert refused >= 15

    def test_of_motion_jpeg(self) -> None:
        # The blocks of 30 units of 4:4:4, all coded by one pair of tables, make up 9 units of another sampling.
        clean = bytearray(encode(photograph(size=(80, 24)), keep_rgb=True, subsampling=0))
        frame = clean.index(b"\xff\xc0")
        struct.pack_into(">HH", clean, frame + 5, 48, 96)
        clean[frame + 11] = 0x42
        bare = without_huffman_tables(bytes(clean))
        np.testing.assert_array_equal(load_image(bare), by_pillow(bytes(clean)))
        with pytest.raises(ImageError):
            load_image(bare[:-40] + bare[-2:])

    def test_a_missing_table_is_noticed(self) -> None:
        data = jpeg((75, 66), [(4, 2), (1, 1), (1, 1)])
        table = data.index(segment(0xC4, b"\x10")[:2] + struct.pack(">H", 19 + len(AC_SYMBOLS)))
        with pytest.raises(ImageError, match="Huffman table is missing"):
            load_image(data[:table] + data[table + 21 + len(AC_SYMBOLS) :])


class TestFilling:
    @pytest.mark.parametrize("sampling", [[(2, 1), (1, 1), (1, 1)], [(4, 2), (1, 1), (1, 1)], [(1, 1)]], ids=str)
    @pytest.mark.parametrize("filling", [b"\0", bytes(7), b"\xff\0", b"\xff\0" * 3, b"\xff"])
    @pytest.mark.parametrize("restart", [0, 1, 4])
    def test_before_markers_is_taken_out(self, sampling: list[tuple[int, int]], filling: bytes, restart: int) -> None:
        clean = jpeg((75, 66), sampling, restart=restart)
        filled = jpeg((75, 66), sampling, restart=restart, filling=filling)
        assert len(filled) > len(clean)
        np.testing.assert_array_equal(load_image(filled), by_pillow(clean))

    @pytest.mark.parametrize("filling", [b"\1", b"\0\1", b"\0\xff\0", b"camera"])
    def test_other_bytes_are_damage(self, filling: bytes) -> None:
        with pytest.raises(ImageError, match="does not end with its last unit"):
            load_image(jpeg((75, 66), [(2, 1), (1, 1), (1, 1)], restart=2, filling=filling))

    @pytest.mark.parametrize("filling", [b"\0", b"\xff\0" * 40])
    def test_it_makes_up_for_no_unit(self, filling: bytes) -> None:
        clean = jpeg((75, 66), [(2, 1), (1, 1), (1, 1)], restart=2)
        second, third = clean.index(b"\xff\xd0"), clean.index(b"\xff\xd1")
        with pytest.raises(ImageError):
            load_image(clean[: second + 2 + (third - second) // 2] + filling + clean[third:])

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("filling", [b"\0", bytes(40), b"\xff\0"])
    def test_of_motion_jpeg_is_taken_out(self, mode: str, filling: bytes) -> None:
        clean = encode(photograph(mode), restart_marker_blocks=2)
        bare = without_huffman_tables(clean)
        filled = bare[:-2].replace(b"\xff\xd3", filling + b"\xff\xd3") + filling + bare[-2:]
        for data in (bare, filled):
            np.testing.assert_array_equal(load_image(data), by_pillow(clean))
        with pytest.raises(ImageError):
            load_image(filled[: -60 - len(filling)] + filling + filled[-2:])

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_in_progressive_files(self, mode: str) -> None:
        clean = encode(photograph(mode), progressive=True, restart_marker_blocks=9)
        filled = clean.replace(b"\xff\xd3", b"\0\0\xff\xd3")
        assert len(filled) > len(clean)
        np.testing.assert_array_equal(load_image(filled), load_image(clean))

    def test_of_many_scans_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clean = encode(photograph("RGB"), progressive=True, restart_marker_blocks=9)
        monkeypatch.setattr("iqa_runtime.images.jpeg._MAX_FOLLOWED_SCANS", 9)  # this one has ten
        with pytest.raises(ImageError, match="more than 9 scans"):
            load_image(clean.replace(b"\xff\xd3", b"\0\0\xff\xd3"))
        load_image(clean)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 98])
@pytest.mark.parametrize("interval", [0, 1, 7])
class TestFollowedCodes:
    """What Pillow wrote ends exactly where it says; one byte less is too little."""

    def test_nothing_is_taken_from_a_whole_file(
        self, mode: str, progressive: bool, quality: int, interval: int
    ) -> None:
        options = {"restart_marker_blocks": interval} if interval else {}
        file, frame = read_markers(encode(photograph(mode), progressive=progressive, quality=quality, **options))
        assert follow_scans(file.segments, frame) == file.segments

    def test_a_byte_less_is_noticed(self, mode: str, progressive: bool, quality: int, interval: int) -> None:
        options = {"restart_marker_blocks": interval} if interval else {}
        data = encode(photograph(mode), progressive=progressive, quality=quality, **options)
        file, frame = read_markers(data)
        for index, part in enumerate(file.segments):
            if part.marker == SOS:
                shorter = type(part)(
                    SOS, part.body, part.coded[:-1].removesuffix(b"\xff"), part.components, part.interval
                )
                with pytest.raises(ImageError):
                    follow_scans([*file.segments[:index], shorter, *file.segments[index + 1 :]], frame)
