"""Small copies of pictures that results have on request."""

import cv2
import numpy as np
import pytest

from iqa_runtime import Scorer, UsageError

LEVEL = 1.0
"""Rounding of the shrinking to whole levels."""


def test_preview_is_the_picture_shrunk_and_the_score_keeps_its_bits(artefacts, tmp_path, noise):
    """Of a JPEG whose crops are few, only some rows are decoded otherwise."""
    image = cv2.GaussianBlur(noise(600, 900), (0, 0), 40)
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    with Scorer(artefacts.mean()) as scorer:
        without = scorer.score(path)
    with Scorer(artefacts.mean(), preview=90) as scorer:
        with_it = scorer.score(path)
    assert without.preview is None
    assert with_it == without
    assert with_it.preview.shape == (60, 90, 3)
    whole = cv2.imread(str(path))[..., ::-1]
    assert (
        np.abs(with_it.preview.astype(float) - cv2.resize(whole, (90, 60), interpolation=cv2.INTER_AREA)).max() <= LEVEL
    )


def test_small_pictures_and_references_stay_as_they_are(artefacts, noise):
    image, other = noise(40, 50), noise(40, 50, 1)
    with Scorer(artefacts.difference(), preview=90) as scorer:
        result = scorer.score(image, other)
    assert np.array_equal(result.preview, image)
    assert np.array_equal(result.reference_preview, other)


def test_what_no_kernel_shrinks_has_a_preview_too(artefacts):
    with Scorer(artefacts.mean(), preview=64) as scorer:
        assert scorer.score(np.full((1, 2**20 + 5, 3), 7, np.uint8)).preview.shape == (1, 64, 3)


def test_an_image_without_a_score_that_was_decoded_has_one(artefacts, noise):
    with Scorer(artefacts.difference(), preview=64) as scorer:
        (result,) = scorer.score_many([noise(40, 50)], [noise(50, 50)])
    assert (result.value, result.preview.shape) == (None, (40, 50, 3))


@pytest.mark.parametrize("preview", [0, -1, 4097, True, 2.0])
def test_a_size_that_is_none_is_refused(artefacts, preview):
    with pytest.raises(UsageError, match="``preview="):
        Scorer(artefacts.mean(), preview=preview)
