"""Files of several images: refused, or their first one, as Pillow has it."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iqa_runtime import Scorer
from iqa_runtime.errors import ImageError, UsageError
from iqa_runtime.images.loading import load_image

WIDTH, HEIGHT = 40, 30


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(kind: str, *pictures: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()


def over_white(image: Image.Image) -> np.ndarray:
    rgba = np.asarray(image.convert("RGBA")).astype(int)
    return (rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255


SEVERAL: dict[str, tuple[str, bytes]] = {
    "gif": ("an animated GIF", saved("GIF", *[picture(seed).quantize(16) for seed in (1, 2, 3)])),
    "png": ("an animated PNG", saved("PNG", picture(1), picture(2))),
    "png, with a still beside": ("an animated PNG", saved("PNG", picture(1), picture(2), default_image=True)),
    "webp": ("an animated WebP", saved("WEBP", picture(1), picture(2), lossless=True)),
    "webp, lossy": ("an animated WebP", saved("WEBP", picture(1), picture(2))),
    "avif": ("an AVIF image sequence", saved("AVIF", picture(1), picture(2), speed=10)),
    "tiff": ("a TIFF of several pages", saved("TIFF", picture(1), picture(2, (9, 9)))),
    "tiff of 200 pages": ("a TIFF of several pages", saved("TIFF", *[picture(1, (3, 2))] * 200)),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_the_first_image_is_that_of_pillow(name: str) -> None:
    what, data = SEVERAL[name]
    with pytest.raises(ImageError, match=f"image bytes: {what}; a score is of one image"):
        load_image(data)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames > 1
        expected = over_white(opened)
    assert np.array_equal(load_image(data, frame="first"), expected)


@pytest.mark.parametrize("name", SEVERAL)
def test_one_cut_anywhere_gives_no_score(name: str) -> None:
    data = SEVERAL[name][1]
    whole = load_image(data, frame="first")
    for cut in range(0, len(data), max(len(data) // 400, 1)):
        try:
            pixels = load_image(data[:cut], frame="first")
        except ImageError:
            continue
        # What lies behind the first may be missing.
        assert name.startswith(("tiff", "avif"))
        assert np.array_equal(pixels, whole)


def webp_frame(left: int, top: int, still: bytes) -> bytes:
    """Wrap the image data of a still file without VP8X, or with one, as a frame."""
    image = still[12:] if still[12:16] != b"VP8X" else still[30:]
    with Image.open(io.BytesIO(still)) as opened:
        width, height = opened.size
    places = [struct.pack("<I", value)[:3] for value in (left // 2, top // 2, width - 1, height - 1, 100)]
    body = b"".join(places) + b"\0" + image
    return b"ANMF" + struct.pack("<I", len(body)) + body


def webp_animation(*frames: bytes, canvas: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    size = b"".join(struct.pack("<I", value - 1)[:3] for value in canvas)
    red = b"ANIM" + struct.pack("<I4sH", 6, b"\0\0\xff\xff", 0)
    chunks = b"VP8X" + struct.pack("<II", 10, 0x12) + size + red + b"".join(frames)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_frame_lies_on_a_white_canvas(mode: str, lossless: bool) -> None:
    small = io.BytesIO()
    picture(5, (12, 9), mode).save(small, "WEBP", lossless=lossless)
    frame = webp_frame(6, 4, small.getvalue())
    data = webp_animation(frame, frame)
    with Image.open(io.BytesIO(data)) as opened:
        expected = over_white(opened)
    pixels = load_image(data, frame="first")
    assert np.array_equal(pixels, expected)
    assert (pixels[:4] == 255).all()
    assert np.array_equal(load_image(webp_animation(frame)), pixels)  # a single frame is no choice


def test_a_webp_frame_may_not_leave_its_canvas() -> None:
    small = io.BytesIO()
    picture(5, (12, 9)).save(small, "WEBP")
    with pytest.raises(ImageError, match="size its header says"):
        load_image(webp_animation(webp_frame(30, 4, small.getvalue())), frame="first")


def test_frames_inside_frames_are_refused() -> None:
    frame = b""
    for _ in range(3000):
        body = bytes(16) + frame
        frame = b"ANMF" + struct.pack("<I", len(body)) + body
    with pytest.raises(ImageError, match="a frame inside a frame"):
        load_image(webp_animation(frame), frame="first")


@pytest.mark.parametrize("frame", ["last", "", 0, True])
def test_no_other_frame_can_be_asked_for(frame: Any) -> None:
    with pytest.raises(UsageError, match=f"``frame={frame}``: give first"):
        load_image(SEVERAL["gif"][1], frame=frame)


def test_scorers_take_the_first_image(artefacts: Any) -> None:
    data, model = SEVERAL["png"][1], artefacts.mean()
    with Scorer(model, frame="first") as scorer, Scorer(model) as plain:
        first = plain.score(np.asarray(picture(1)))
        assert scorer.score(data).value == first.value
        (result,) = plain.score_many([data])
        assert result.value is None
        assert "an animated PNG" in str(result.error)
