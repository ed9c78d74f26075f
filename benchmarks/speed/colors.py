"""Turning a photograph of 12 megapixels from Display P3 into sRGB, in place: our kernel, littleCMS, and a plain write.

One thread each. Calls go round through so many copies of the picture that none is left in a cache when its turn comes.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import conversion_of
from iqa_runtime.color.tags import ColorTag
from speed.kernel_contenders import STORE, instruction_sets, kernel_parts, sample
from speed.photographs import PHONE_SIDE, make_pixels
from speed.turns import Contender, Work

_COPIES = 8  # 288 MB, several times the last-level cache of the hosts this was written on
_TWIN = "numpy"
# Display P3's colorants as an ICC profile has them, adapted to D50: red, green, blue.
_P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


def p3_profile() -> bytes:
    """Return littleCMS's profile of sRGB with the colorants of Display P3, whose curves are the same."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for index in range(count):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name in _P3:
            struct.pack_into(">3i", profile, offset + 8, *(round(value * 65536) for value in _P3[name]))
    return bytes(profile)


def contenders(side: int) -> list[Contender]:
    """Return who takes part with a photograph of so many pixels in its longer side; of ours every instruction set."""
    options = {"side": side}
    # NumPy's twin takes seconds.
    others = [name for name in instruction_sets()[1:] if name != _TWIN or side < PHONE_SIDE]
    return [
        Contender(name="ours", role="ours", make="speed.colors:kernel", options=options),
        *kernel_parts("speed.colors:kernel", options, others),
        Contender(name=STORE, role="limit", make="speed.colors:store", options=options),
        Contender(
            name="read and written in place (numpy.invert)", role="limit", make="speed.colors:invert", options=options
        ),
        Contender(name="littleCMS (Pillow, in place)", role="rival", make="speed.colors:littlecms", options=options),
    ]


def kernel(options: dict[str, Any]) -> Work:
    image = make_pixels(options["side"])
    conversion = conversion_of(ColorTag(profile=p3_profile()), "RGB")
    checked = conversion.apply(image.copy())
    return _in_turn(image.copy, conversion.apply, checked)


def littlecms(options: dict[str, Any]) -> Work:
    from PIL import Image, ImageCms

    picture = Image.fromarray(make_pixels(options["side"]))
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(p3_profile())),
        ImageCms.createProfile("sRGB"),
        "RGB",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )

    def convert(copy: Image.Image) -> None:
        ImageCms.applyTransform(copy, transform, inPlace=True)

    checked = picture.copy()
    convert(checked)
    return _in_turn(picture.copy, convert, np.asarray(checked))


def store(options: dict[str, Any]) -> Work:
    return _in_turn(make_pixels(options["side"]).copy, lambda copy: copy.fill(1))


def invert(options: dict[str, Any]) -> Work:
    return _in_turn(make_pixels(options["side"]).copy, lambda copy: np.invert(copy, out=copy))


def _in_turn(
    make: Callable[[], Any], convert: Callable[[Any], object], checked: NDArray[np.uint8] | None = None
) -> Work:
    copies = itertools.cycle([make() for _ in range(_COPIES)])
    return Work(call=lambda: convert(next(copies)), check=[] if checked is None else sample(checked))
