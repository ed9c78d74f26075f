"""AVIF files, by Pillow and by hand: pixels of Pillow's libavif, and what a file may say and not keep."""

import io
import struct
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.isobmff import Box, read_boxes, read_items
from iqa_runtime.images.loading import load_image, load_with_color

WIDTH, HEIGHT = 90, 61


def smooth(size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(2).integers(0, 256, (5, 7, 4), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", speed=10, **options)
    return buffer.getvalue()


def shown(data: bytes) -> NDArray[np.uint8]:
    """Return what Pillow makes of a file, upright and over white."""
    with Image.open(io.BytesIO(data)) as image:
        rgba = np.asarray(ImageOps.exif_transpose(image).convert("RGBA")).astype(int)
    return ((rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255).astype(np.uint8)


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


def find(data: bytes, *path: bytes) -> Box:
    start, end = 0, len(data)
    for kind in path:
        found = next(each for each in read_boxes(data, start, end) if each.kind == kind)
        start, end = found.start + 4 * (kind == b"meta"), found.end
    return found


def parts_of(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return coded data and properties of a file of one image."""
    file = read_items(data)
    item = file.items[file.primary]
    return item.data(data), {kind: content for kind, content, _ in item.properties}


def heif(
    items: Iterable[tuple[bytes, bytes, list[bytes]]],
    references: bytes = b"",
    *,
    brand: bytes = b"avif",
    inside: bool = False,
    after: bytes = b"",
) -> bytes:
    """Build a file: the first item is the picture; each is its type, data, and properties as boxes."""
    items = list(items)
    infe = [full(b"infe", struct.pack(">HH4sx", n, 0, kind), version=2) for n, (kind, _, _) in enumerate(items, 1)]
    properties = [each for _, _, own in items for each in own]
    associations, used = [], 0
    for number, (_, _, own) in enumerate(items, 1):
        essential = [0x80 * (each[4:8] in (b"clap", b"irot", b"imir")) for each in own]
        indices = bytes(used + place + flag for place, flag in enumerate(essential, 1))
        associations.append(struct.pack(">HB", number, len(own)) + indices)
        used += len(own)
    count = len(items)

    def meta(start: int) -> bytes:
        places, position = [], start
        for number, (_, coded, _) in enumerate(items, 1):
            places.append(struct.pack(">HHHHII", number, int(inside), 0, 1, position, len(coded)))
            position += len(coded)
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iinf", struct.pack(">H", count), *infe),
            full(b"iloc", struct.pack(">HH", 0x4400, count), *places, version=1),
            full(b"iref", references) if references else b"",
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", struct.pack(">I", count), *associations)),
            box(b"idat", *[coded for _, coded, _ in items]) if inside else b"",
        )

    head = box(b"ftyp", brand, bytes(4), brand, b"mif1", b"miaf")
    if inside:
        return head + meta(0) + after
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *[coded for _, coded, _ in items]) + after


def tile(seed: int, size: tuple[int, int] = (64, 64)) -> tuple[bytes, bytes, list[bytes]]:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    coded, properties = parts_of(saved(Image.fromarray(noise).resize(size), quality=100, subsampling="4:4:4"))
    return b"av01", coded, [box(kind, content) for kind, content in properties.items()]


def grid(columns: int, rows: int, size: tuple[int, int]) -> bytes:
    tiles = [tile(seed) for seed in range(columns * rows)]
    described = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    extent = full(b"ispe", struct.pack(">II", *size))
    references = box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *range(2, len(tiles) + 2)))
    return heif([(b"grid", described, [extent, *tiles[0][2][1:]]), *tiles], references)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": "4:4:4", "quality": 100}),
        ("RGB", {"subsampling": "4:2:2", "range": "limited"}),
        ("RGBA", {}),
        ("L", {"subsampling": "4:0:0"}),
        ("LA", {}),
    ],
)
def test_files_of_pillow_have_its_pixels(mode: str, options: dict[str, Any]) -> None:
    data = saved(smooth(mode=mode), **options)
    assert np.array_equal(load_image(data), shown(data))
    assert inspect_header(data).format == "AVIF"


@pytest.mark.parametrize("depth", [10, 12])
def test_more_bits_keep_their_upper_8(depth: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << depth, (20, 30, 3), np.uint16)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 10]
    _, encoded = cv2.imencode(".avif", pixels, options)  # of this quality without loss
    assert np.array_equal(load_image(encoded.tobytes()), pixels[..., ::-1] >> depth - 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(smooth(), exif=exif.tobytes())
    assert np.array_equal(load_image(data), shown(data))
    assert inspect_header(data).orientation == orientation


@pytest.mark.parametrize(("columns", "rows", "size"), [(2, 2, (128, 128)), (3, 2, (150, 70)), (1, 1, (64, 64))])
def test_grids_have_the_pixels_of_pillow(columns: int, rows: int, size: tuple[int, int]) -> None:
    data = grid(columns, rows, size)
    assert load_image(data).shape == (size[1], size[0], 3)
    assert np.array_equal(load_image(data), shown(data))


@pytest.mark.parametrize(
    ("aperture", "crop"),
    [
        ((40, 1, 30, 1, 0, 1, 0, 1), (12, 17, 52, 47)),
        ((80, 2, 63, 1, -7, 1, -1, 2), (5, 0, 45, 63)),
    ],
)
def test_a_clean_aperture_is_cut_out(aperture: tuple[int, ...], crop: tuple[int, int, int, int]) -> None:
    _, coded, own = tile(1)
    whole = load_image(heif([(b"av01", coded, own)]))
    clap = box(b"clap", struct.pack(">IIIIiIiI", *aperture))
    left, top, right, bottom = crop
    assert np.array_equal(load_image(heif([(b"av01", coded, [*own, clap])])), whole[top:bottom, left:right])
    turned = load_image(heif([(b"av01", coded, [*own, clap, box(b"irot", b"\1")])]))
    assert np.array_equal(turned, np.rot90(whole[top:bottom, left:right]))


@pytest.mark.parametrize("aperture", [(65, 1, 64, 1, 0, 1, 0, 1), (33, 1, 32, 1, 0, 1, 0, 1), (1, 0, 1, 1, 0, 1, 0, 1)])
def test_an_aperture_of_other_pixels_is_refused(aperture: tuple[int, ...]) -> None:
    _, coded, own = tile(1)
    with pytest.raises(ImageError, match="clean aperture"):
        inspect_header(heif([(b"av01", coded, [*own, box(b"clap", struct.pack(">IIIIiIiI", *aperture))])]))


def test_several_pictures_are_refused_and_the_primary_one_can_be_had() -> None:
    first, second = tile(1), tile(2)
    with pytest.raises(ImageError, match="several images in a file of AVIF"):
        load_image(heif([first, second]))
    assert np.array_equal(load_image(heif([first, second]), frame="first"), load_image(heif([first])))
    thumbnail = box(b"thmb", struct.pack(">HHH", 2, 1, 1))
    assert np.array_equal(load_image(heif([first, second], thumbnail)), load_image(heif([first])))


def test_data_may_lie_inside_the_description() -> None:
    item = tile(1)
    assert np.array_equal(load_image(heif([item], inside=True)), load_image(heif([item])))


@pytest.mark.parametrize("name", ["rgb", "alpha", "grid", "turned"])
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = {
        "rgb": lambda: saved(smooth()),
        "alpha": lambda: saved(smooth(mode="RGBA")),
        "grid": lambda: grid(2, 1, (128, 64)),
        "turned": lambda: saved(smooth(), exif=exif.tobytes(), icc_profile=b"no profile"),
    }[name]()
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            inspect_header(data[:cut])
    assert inspect_header(data + b"\xff\xd8motion photo") == inspect_header(data)


def test_a_sequence_is_refused_and_its_still_image_can_be_had() -> None:
    data = saved(smooth(), save_all=True, append_images=[smooth().rotate(180)])
    with pytest.raises(ImageError, match="an AVIF image sequence; a score is of one image"):
        load_image(data)
    assert np.array_equal(load_image(data, frame="first"), shown(data))
    tracks = find(data, b"moov")
    for end in (tracks.begin, tracks.end - 1):
        with pytest.raises(ImageError):
            load_image(data[:end])


@pytest.mark.parametrize(
    ("primaries", "transfer", "says"),
    [(1, 13, "sRGB"), (12, 13, "Display P3 -> sRGB"), (2, 2, "untagged"), (9, 1, "Rec. 2020 -> sRGB")],
)
def test_code_points_say_what_colours_are(primaries: int, transfer: int, says: str) -> None:
    assert load_with_color(coded_as(primaries, transfer)).color == says


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    with pytest.raises(ImageError, match=rf"HDR \({name}\)"):
        load_image(coded_as(9, transfer))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    _, coded, properties = tile(1)
    nclx = box(b"colr", b"nclx" + struct.pack(">HHHB", 9, transfer, 0, 0x80))
    others = [each for each in properties if each[4:8] != b"colr"]
    with pytest.raises(ImageError, match=rf"HDR \({name}\)"):
        load_image(heif([(b"av01", coded, [*others, nclx, box(b"colr", b"prof" + profile)])]))
    assert load_with_color(heif([(b"av01", coded, [*others, box(b"colr", b"prof" + profile)])])).color == "sRGB"


def coded_as(primaries: int, transfer: int) -> bytes:
    data = saved(smooth())
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def test_what_coded_data_says_without_a_box_counts() -> None:
    _, coded, properties = tile(1)
    without = [each for each in properties if each[4:8] != b"colr"]
    assert load_with_color(heif([(b"av01", coded, without)])).color == "sRGB"


def test_a_profile_is_read() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert load_with_color(saved(smooth(), icc_profile=profile)).color == "sRGB"
    assert load_with_color(saved(smooth(), icc_profile=b"no profile")).color == "profile damaged"


class TestRefused:
    """What a file says and does not keep, or what is not read."""

    @staticmethod
    def one(properties: list[bytes] | None = None, **options: Any) -> bytes:
        _, coded, own = tile(1)
        return heif([(b"av01", coded, [*own, *(properties or [])])], **options)

    def test_the_file_that_all_others_differ_from_is_read(self) -> None:
        assert load_image(self.one()).shape == (64, 64, 3)

    def test_another_size_than_that_of_the_coded_data(self) -> None:
        data = self.one().replace(struct.pack(">II", 64, 64), struct.pack(">II", 32, 64))
        with pytest.raises(ImageError, match="coded data of 64 x 64 pixels, of 32 x 64"):
            inspect_header(data)

    def test_tiles_that_make_another_size(self) -> None:
        data = grid(2, 2, (128, 128))
        with pytest.raises(ImageError, match="tiles of a grid"):
            inspect_header(data.replace(struct.pack(">BBBBHH", 0, 0, 1, 1, 128, 128), bytes(4) + b"\0\x80\0\x80"))
        other = data.replace(struct.pack(">HH", 128, 128), struct.pack(">HH", 300, 128))
        with pytest.raises(ImageError, match="make no 300 x 128"):
            inspect_header(other.replace(struct.pack(">II", 128, 128), struct.pack(">II", 300, 128)))

    def test_items_over_one_another(self) -> None:
        data = grid(2, 2, (128, 128))
        places = find(data, b"meta", b"iloc")
        same = bytearray(data)
        for entry in range(places.start + 8 + 16, places.end, 16):  # all but the grid itself
            same[entry + 8 : entry + 16] = struct.pack(">II", 0, len(data) // 2)
        with pytest.raises(ImageError, match=r"take \d+ of \d+ bytes"):
            inspect_header(bytes(same))

    @pytest.mark.parametrize(
        ("kind", "says"),
        [(b"clap", "turned before it is cropped"), (b"irot", "before it is turned"), (b"imir", "twice")],
    )
    def test_properties(self, kind: bytes, says: str) -> None:
        mirror = box(b"imir", b"\0")
        with pytest.raises(ImageError, match=says):
            inspect_header(self.one([mirror, box(kind, struct.pack(">8I", 64, 1, 64, 1, 0, 1, 0, 1))]))

    def test_unknown_essential_properties(self) -> None:
        data = self.one([box(b"what", b"1")])
        assert inspect_header(data).width == 64
        entry = find(data, b"meta", b"iprp", b"ipma").end - 1
        with pytest.raises(ImageError, match="depends on what"):
            inspect_header(data[:entry] + bytes([data[entry] | 0x80]) + data[entry + 1 :])

    def test_other_codings_by_name(self) -> None:
        _, coded, own = tile(1)
        with pytest.raises(ImageError, match="coded as j2k1"):
            inspect_header(heif([(b"j2k1", coded, own)]))

    def test_an_opencv_without_the_format_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
        with pytest.raises(ImageError, match="corrupt AVIF"):
            load_image(self.one())
        monkeypatch.setattr(cv2, "haveImageWriter", lambda _: False)
        with pytest.raises(ImageError, match=r"was built without AVIF; install opencv-python-headless"):
            load_image(self.one())

    def test_a_file_of_tracks_alone(self) -> None:
        with pytest.raises(ImageError, match="without a still image"):
            inspect_header(heif([(b"av01", b"", [])]).replace(b"pitm", b"free"))

    def test_places_that_take_no_bytes(self) -> None:
        data = self.one()
        places = find(data, b"meta", b"iloc").start + 4
        with pytest.raises(ImageError, match="no stated length"):
            inspect_header(data[:places] + b"\0\0" + data[places + 2 :])
