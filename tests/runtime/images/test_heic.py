"""HEIC files: what is checked without libheif, and pixels where it is installed."""

import base64
import io
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime import Scorer
from iqa_runtime.errors import ImageError
from iqa_runtime.files.inputs import expand_inputs
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.hevc import coded_sizes
from iqa_runtime.images.isobmff import read_items
from iqa_runtime.images.loading import load_image, load_with_color

LOSSLESS_TOLERANCE = 1  # levels, of YCbCr there and back

# 18 x 11 pixels by pillow-heif 1.8.1 (libheif 1.23.6, x265 4.3), of an even height that is cropped.
SMALL = base64.b85decode(
    "0000OW^{RQXk}?*00000ZE0pPXk}?*0004eZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE"
    "07O6l0RRC200001oB#m;00000003VA001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002|X>f9I"
    "0002oX>en20001WXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDMA4O18@KU"
    "0|1Z!00RI30{|YNAb|yz>aLpR;31&EfB*mtfB*mk0EA)y0RRR>0l{;@i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$"
    "0000$0000eV{Bn?0000I000010000B00001|NsBe00002|NsBX000020000GaA|mH000000|*ER0000OX>e^}0000000001009Mo"
    "0s{qv0001IZDe6|00016C;_ih8-s;_=KH3Ee@dBrNOQZd0vS4%n4gvT06}gU%~*|9SaT`s-9<6aW{0G~2r>yH!{XgcpiPx5#+TPe"
    "pttK$`sQP}lSvDvxwr*ru)UTr2tcWtO!&9"
)


def test_sizes_come_from_the_content() -> None:
    header = inspect_header(SMALL)
    assert (header.format, header.width, header.height, header.several) == ("HEIC", 18, 11, None)


def test_a_file_cut_anywhere_is_refused() -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(ImageError):
            inspect_header(SMALL[:cut])
    assert inspect_header(SMALL + b"\xff\xd8motion photo") == inspect_header(SMALL)


def test_where_libheif_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r'a HEIC image, which needs pillow-heif .* pip install "iqa-deploy\[heic\]"'):
        load_image(SMALL)


def test_a_picture_that_needs_the_extra_is_a_row_that_names_it(
    monkeypatch: pytest.MonkeyPatch, artefacts: Any, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(SMALL)
    with Scorer(artefacts.mean()) as scorer:
        (result,) = scorer.score_many(expand_inputs([str(tmp_path)], io.BytesIO()))
    assert result.row()["score"] is None
    assert "a.heic: a HEIC image, which needs pillow-heif" in result.row()["error"]
    assert 'pip install "iqa-deploy[heic]"' in result.row()["error"]


@pytest.mark.parametrize("version", ["1.23.3", "1.9.10", "0.99.99"])
def test_an_old_libheif_is_refused_with_the_upgrade(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(libheif_version=lambda: version))
    with pytest.raises(ImageError, match=rf"libheif {version}: before 1\.23\.4 .* pip install --upgrade"):
        load_image(SMALL)


@pytest.mark.parametrize("version", ["1.23.4", "1.24.0", "2.0.0"])
def test_what_a_decoder_says_of_a_file_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SyntaxError("not this one")

    decoder = SimpleNamespace(libheif_version=lambda: version, open_heif=fail)
    monkeypatch.setitem(sys.modules, "pillow_heif", decoder)
    with pytest.raises(ImageError, match=r"corrupt HEIC \(not this one\)"):
        load_image(SMALL)


def test_coded_data_must_have_the_size_that_its_boxes_say() -> None:
    file = read_items(SMALL)
    item = file.items[file.primary]
    ((width, height),) = coded_sizes(item.find(b"hvcC") or b"", item.data(SMALL))
    extent = item.find(b"ispe")
    assert extent is not None
    assert struct.unpack(">4xII", extent) <= (width, height)
    for across, down in ((width + 1, height), (width, height + 1), (18, height - 64)):
        other = SMALL.replace(extent, struct.pack(">III", 0, across, down & 0xFFFFFFFF))
        with pytest.raises(ImageError):
            inspect_header(other)


def encoded(mode: str, *pictures: NDArray[np.uint8], **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.HeifFile()
    for pixels in pictures:
        height, width = pixels.shape[:2]
        file.add_frombytes(mode, (width, height), pixels.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, **{"quality": -1, "chroma": 444} | options)
    return buffer.getvalue()


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (90, 61), (17, 33)])
def test_colours_come_back(width: int, height: int) -> None:
    pixels = noise(height, width, 3)
    loaded = load_with_color(encoded("RGB", pixels))
    assert loaded.color == "sRGB"
    assert np.abs(loaded.pixels.astype(int) - pixels).max() <= LOSSLESS_TOLERANCE


def test_gray_is_three_equal_channels() -> None:
    pixels = noise(40, 30)
    assert np.array_equal(load_image(encoded("L", pixels)), pixels[..., None].repeat(3, axis=2))


def test_transparency_is_laid_over_white() -> None:
    pixels = noise(40, 30, 4)
    alpha = pixels[..., 3:].astype(int)
    expected = (pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    assert np.abs(load_image(encoded("RGBA", pixels)) - expected).max() <= LOSSLESS_TOLERANCE


def test_of_more_bits_the_upper_8_are_kept() -> None:
    pixels = noise(40, 30, 3)
    data = encoded("RGB;16", pixels.astype(np.uint16) * 256 + 128)
    assert np.abs(load_image(data).astype(int) - pixels).max() <= LOSSLESS_TOLERANCE


@pytest.mark.parametrize("turns", range(4))
def test_a_picture_is_turned_and_mirrored_once(turns: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(noise(32, 48, 3))
    image.info["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, chroma=444)
    data = buffer.getvalue()
    place = data.index(b"irot") + 4
    upright = load_image(data[:place] + b"\0" + data[place + 1 :])
    turned = data[:place] + bytes([turns]) + data[place + 1 :]
    assert np.array_equal(load_image(turned), np.rot90(upright, turns))
    mirrored = [upright[::-1], upright[:, ::-1]][turns % 2]
    assert np.array_equal(load_image(turned[: place - 4] + b"imir" + bytes([turns % 2]) + data[place + 1 :]), mirrored)


def test_several_pictures_are_refused_and_the_primary_one_can_be_had() -> None:
    first, second = noise(32, 48, 3), noise(32, 48, 3)[::-1].copy()
    data = encoded("RGB", first, second)
    with pytest.raises(ImageError, match="several images in a file of HEIC"):
        load_image(data)
    assert np.abs(load_image(data, frame="first").astype(int) - first).max() <= LOSSLESS_TOLERANCE


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    place = SMALL.index(b"colrnclx") + 8
    with pytest.raises(ImageError, match=rf"HDR \({name}\)"):
        load_image(SMALL[:place] + struct.pack(">HH", 9, transfer) + SMALL[place + 4 :])
