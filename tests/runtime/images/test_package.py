"""What the package of images shows to those who embed it."""

import iqa_runtime.images
from iqa_runtime.images import loading


def test_loading_is_what_the_package_is_for() -> None:
    assert iqa_runtime.images.load_image is loading.load_image
    assert iqa_runtime.images.DEFAULT_PIXEL_LIMIT == loading.DEFAULT_PIXEL_LIMIT
