"""The size a picture is judged at: what becomes of it, and that its score is that of the picture Pillow makes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from iqa_runtime import Scorer, UsageError, read_contract
from iqa_runtime.contract import Resize
from iqa_runtime.errors import ImageError
from iqa_runtime.scoring.resizing import (
    format_resize,
    judged_size,
    load_judged,
    parse_resize,
    resized_size,
    with_resize,
)

SUM = 1e-6
"""Five crops in one float32 sum, or each in its own: pixels are 0 to 1, and a float32 has 24 bits."""

PLANS = ["five", "center", "grid:20", "random:7:3", "uniform:6"]
SHORTER = Resize(to="shorter", size=50, filter="bilinear", when="shrink")


def resized(image: NDArray[np.uint8], size: tuple[int, int], resampling: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size[::-1], resampling))


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("shorter:512", (3000, 4000), (512, 682)),  # 682.67, cut as torchvision's Resize cuts it
        ("shorter:512", (4000, 3000), (682, 512)),
        ("shorter:512", (100, 200), (512, 1024)),
        ("shorter:512:shrink", (100, 200), (100, 200)),
        ("shorter:512:shrink", (512, 900), (512, 900)),
        ("shorter:512:bicubic:shrink", (513, 900), (512, 898)),
        ("longer:1024", (3000, 4000), (768, 1024)),
        ("longer:1024:shrink", (300, 400), (300, 400)),
        ("longer:8", (1, 65_500), (1, 8)),
        ("pixels:10000", (200, 200), (100, 100)),
        ("pixels:10000", (3000, 4000), (86, 115)),
        ("pixels:10000:shrink", (50, 60), (50, 60)),
        ("pixels:5", (1, 100), (1, 5)),
        ("pixels:5", (100, 1), (5, 1)),
        ("exact:512x384", (3000, 4000), (384, 512)),
        ("exact:512x384", (30, 40), (384, 512)),
    ],
)
def test_sizes(text: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    resize = parse_resize(text)
    assert resize is not None
    assert resized_size(resize, *size) == expected


@pytest.mark.parametrize(
    ("text", "resize"),
    [
        ("none", None),
        ("shorter:512:bicubic", Resize(to="shorter", size=512, filter="bicubic")),
        ("longer:1024:lanczos:shrink", Resize(to="longer", size=1024, filter="lanczos", when="shrink")),
        ("exact:512x384:bilinear", Resize(to="exact", size=(384, 512), filter="bilinear")),
        (
            "pixels:200000:box:shrink:draft",
            Resize(to="pixels", size=200_000, filter="box", when="shrink", draft=True),
        ),
    ],
)
def test_spelling_and_back(text: str, resize: Resize | None) -> None:
    assert parse_resize(text) == resize
    assert format_resize(resize) == text


WRONG = """512 shorter shorter:0 shorter:9999999 exact:512 exact:0x4 exact:9x9:shrink longer:8:area
shorter:512:shrink:bicubic pixels:4294967296 None shorter:-1"""


@pytest.mark.parametrize("text", ["", "shorter:5 12", *WRONG.split()])
def test_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="resize="):
        parse_resize(text)


def test_a_far_longer_than_wide_picture_is_not_blown_up() -> None:
    resize = Resize(to="shorter", size=512, filter="bicubic")
    with pytest.raises(ImageError, match=r"1 x 65500 pixels, resized to 512 x 33536000 .* can be resized"):
        judged_size(resize, 65_500, 1, 200_000_000)
    with pytest.raises(ImageError, match="over the limit of 1000000 pixels"):
        judged_size(resize, 1, 30, 1_000_000)
    assert judged_size(None, 3, 4, 1) == (3, 4)
    assert judged_size(resize, 2000, 3000, 200_000) == (512, 768), "smaller than the picture itself, limit or not"


@pytest.mark.parametrize("plan", PLANS)
def test_scores_are_those_of_the_picture_that_pillow_makes(artefacts: Any, noise: Any, plan: str) -> None:
    plain = artefacts.mean()
    shrunk = artefacts.mean("shrunk", resize=SHORTER)
    pictures = [noise(120, 200), noise(300, 71), noise(51, 64), noise(50, 64), noise(20, 30)]
    small = [
        resized(picture, resized_size(SHORTER, *picture.shape[:2]), Image.Resampling.BILINEAR) for picture in pictures
    ]
    with Scorer(plain, crops=plan) as scorer:
        expected = [scorer.score(picture).value for picture in small]
    with Scorer(shrunk, crops=plan) as scorer:
        results = list(scorer.score_many(pictures))
        assert [result.value for result in results] == expected
        assert [scorer.score(picture).value for picture in pictures] == expected
        assert [(r.height, r.width) for r in results] == [picture.shape[:2] for picture in pictures]


def test_crops_larger_than_the_resized_picture(artefacts: Any, noise: Any) -> None:
    resize = Resize(to="longer", size=25, filter="box")
    plain, tiny = artefacts.mean(), artefacts.mean("tiny", resize=resize)
    picture = noise(80, 200)
    with Scorer(plain) as scorer, Scorer(tiny) as small:
        expected = scorer.score(resized(picture, (10, 25), Image.Resampling.BOX)).value
        assert small.score(picture).value == expected
        assert next(small.score_many([picture])).value == expected


@pytest.mark.parametrize("form", ["difference", "cached"])
def test_references_are_resized_alike(artefacts: Any, noise: Any, form: str) -> None:
    resize = Resize(to="exact", size=(40, 60), filter="lanczos")
    plain = getattr(artefacts, form)(task="fr")
    image, reference = noise(120, 200), noise(120, 200)
    small = [resized(picture, (40, 60), Image.Resampling.LANCZOS) for picture in (image, reference)]
    with Scorer(plain) as scorer, Scorer(plain, resize=resize) as other:
        assert other.score(image, reference).value == scorer.score(*small).value
        with pytest.raises(UsageError, match="equal sizes"):
            other.score(image, noise(120, 201))


@pytest.mark.parametrize("size", [(480, 640), (481, 643), (900, 130), (101, 203)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_is_pillows(tmp_path: Path, noise: Any, size: tuple[int, int], mode: str, orientation: int) -> None:
    how = Resize(to="shorter", size=50, filter="bicubic", when="shrink", draft=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.jpg"
    blurred = Image.fromarray(noise(*size)).filter(ImageFilter.GaussianBlur(3))
    blurred.convert(mode).save(path, quality=92, exif=exif)

    upright = size if orientation == 1 else size[::-1]
    height, width = resized_size(how, *upright)
    with Image.open(path) as opened:
        assert opened.draft(mode, (width, height) if orientation == 1 else (height, width)) is not None
        assert opened.size != size[::-1], "else it tests nothing"
        expected = ImageOps.exif_transpose(opened).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)

    loaded = load_judged(path, how, pixel_limit=10**6, color_space="sRGB")
    np.testing.assert_array_equal(loaded.pixels, np.asarray(expected))
    assert (loaded.height, loaded.width) == upright


def test_a_draft_is_as_strict(noise: Any) -> None:
    how = Resize(to="shorter", size=50, filter="bicubic", when="shrink", draft=True)
    data = BytesIO()
    Image.fromarray(noise(480, 640)).save(data, "JPEG", quality=90)
    broken = bytearray(data.getvalue())
    broken[len(broken) // 2 : len(broken) // 2 + 512] = bytes(512)
    for damaged in (data.getvalue()[:-400], bytes(broken)):
        with pytest.raises(ImageError, match="undamaged"):
            load_judged(damaged, how, pixel_limit=10**6, color_space="sRGB")


def test_other_formats_have_no_draft(tmp_path: Path, noise: Any) -> None:
    how = Resize(to="shorter", size=50, filter="bicubic", when="shrink", draft=True)
    picture = noise(480, 640)
    Image.fromarray(picture).save(tmp_path / "x.png")
    loaded = load_judged(tmp_path / "x.png", how, pixel_limit=10**6, color_space="sRGB")
    np.testing.assert_array_equal(loaded.pixels, resized(picture, (50, 66), Image.Resampling.BICUBIC))


def test_another_size_than_the_artefacts(artefacts: Any, noise: Any) -> None:
    plain = artefacts.mean()
    shrunk = artefacts.mean("shrunk", resize=SHORTER)
    picture = noise(120, 200)
    with Scorer(plain) as scorer:
        as_it_is = scorer.score(picture)
        assert scorer.resize is None
    with Scorer(plain, resize="shorter:50:bilinear:shrink") as scorer:
        smaller = scorer.score(picture)
        assert scorer.resize == SHORTER
        assert scorer.artefact_key.endswith(":five:shorter:50:bilinear:shrink")
    with Scorer(shrunk) as scorer:
        assert scorer.score(picture).value == smaller.value
        assert scorer.artefact_key.endswith(":five"), "the artefact's digest tells its own size"
    with Scorer(shrunk, resize="none") as scorer:
        assert scorer.score(picture).value == as_it_is.value
        assert scorer.artefact_key.endswith(":none")
        assert scorer.resize is None


def test_maps_and_restored_pictures_are_of_the_resized_one(artefacts: Any, noise: Any) -> None:
    with Scorer(artefacts.mapped(), maps=True, crops="grid", resize=SHORTER) as scorer:
        result = scorer.score(noise(120, 200))
        assert result.map is not None
        assert result.map.shape == (50, 83)
        assert (result.height, result.width) == (120, 200)
    with Scorer(artefacts.restoring(), restored=True, resize=SHORTER) as scorer:
        result = next(scorer.score_many([noise(120, 200)]))
        assert result.restored is not None
        assert result.restored.shape == (50, 83, 3)


def test_what_cannot_be_resized_otherwise(artefacts: Any) -> None:
    with pytest.raises(UsageError, match="reference inside"):
        Scorer(artefacts.baked(), resize="shorter:50")
    with pytest.raises(UsageError, match=r"resize.*number of pixels"):
        Scorer(artefacts.mean(), resize=Resize(to="shorter", size=0, filter="box"))
    with pytest.raises(UsageError, match="a Resize or its text"):
        Scorer(artefacts.mean(), resize=512)  # type: ignore[arg-type]


def test_a_baked_reference_has_the_size_of_the_picture_not_of_its_resized_form(artefacts: Any, noise: Any) -> None:
    resize = Resize(to="exact", size=(40, 50), filter="box")
    shrunk = artefacts.baked("shrunk", inputs=with_resize(read_contract(artefacts.baked()), resize).inputs)
    picture = noise(64, 80)
    small = resized(picture, (40, 50), Image.Resampling.BOX)
    with Scorer(shrunk) as scorer, Scorer(artefacts.mean()) as plain:
        assert scorer.score(picture).value == pytest.approx(plain.score(small).value, abs=SUM)
        with pytest.raises(UsageError, match="the reference in this artefact 80 x 64"):
            scorer.score(noise(40, 50))


@pytest.mark.parametrize(
    "changes",
    [
        {"to": "width"},
        {"when": "never"},
        {"draft": "no"},
        {"filter": "gauss"},
        {"size": 512.5},
        {"size": "512"},
        {"to": "exact", "size": (384,)},
        {"to": "exact", "size": (1, 2, 3)},
    ],
)
def test_a_resize_of_wrong_values_is_refused_when_it_is_given(artefacts: Any, changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"to": "shorter", "size": 512, "filter": "box"}
    with pytest.raises(UsageError, match="resize="):
        Scorer(artefacts.mean(), resize=Resize(**(fields | changes)))


def test_the_same_size_as_the_artefacts_own_is_no_other(artefacts: Any) -> None:
    with Scorer(artefacts.mean(resize=SHORTER), resize=SHORTER) as scorer:
        assert scorer.artefact_key.endswith(":five")


@pytest.mark.parametrize("size", [(1, 60_000), (4, 2**20 + 8)])
def test_what_cannot_be_resized_is_refused_by_name_before_it_is_decoded(
    artefacts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    path = tmp_path / "long.pgm"
    path.write_bytes(b"P5 %d %d 255\n" % (size[1], size[0]) + bytes(size[0] * size[1]))
    monkeypatch.setattr("iqa_runtime.images.loading.decode", None)
    with Scorer(artefacts.mean(), resize="shorter:20") as scorer:
        error = next(scorer.score_many([str(path)])).error
        assert isinstance(error, ImageError)
        assert str(path) in str(error)
        assert "can be resized" in str(error)
