"""What calibration and the gate degrade is what scoring would see."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from iqa_calibration.images.items import Cropper
from iqa_runtime.contract import Resize
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.scoring.preparation import Preparer
from tiny_contract import tiny_contract

DRAFT = Resize(to="shorter", size=50, filter="bicubic", when="shrink", draft=True)


def photograph(form: str) -> bytes:
    """Return a picture with a gamma of 1, as PNG, or one that is decoded smaller, as JPEG."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC)
    stream = BytesIO()
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    picture.save(stream, form, **({"pnginfo": chunks} if form == "PNG" else {"quality": 90}))
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("space", ["sRGB", "stored"])
@pytest.mark.parametrize("resize", [None, DRAFT])
def test_a_photograph_that_is_not_degraded_is_the_scored_one(form, space, resize):
    contract = tiny_contract(32)
    contract = replace(contract, inputs=(replace(contract.inputs[0], color_space=space, resize=resize),))
    source = photograph(form)
    scored = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT).prepare(source, None).subject
    cropper = Cropper(contract)
    calibrated = cropper.subject(cropper.photograph(source), None)
    np.testing.assert_array_equal(calibrated.image, scored.image)


@pytest.mark.parametrize("resize", [None, DRAFT])
def test_a_pair_has_one_size(resize):
    contract = tiny_contract(32, "fr")
    contract = replace(contract, inputs=tuple(replace(tensor, resize=resize) for tensor in contract.inputs))
    source, cropper = photograph("JPEG"), Cropper(contract)
    subject = cropper.subject(cropper.photograph(source), source)
    assert subject.image.shape == subject.reference.image.shape
