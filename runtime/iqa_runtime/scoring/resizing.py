"""The size a picture is judged at: what a contract's `Resize` makes of it, and how that is written in a command."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.contract_rules import about_resize
from iqa_runtime.contract import ColorSpace, Contract, Resize
from iqa_runtime.errors import ImageError, UsageError
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import LoadedImage, Source, Target, load_with_color
from iqa_runtime.kernels import MAX_RESIZED_SIDE, resize

NOTHING = "none"
"""How it is written that a picture stays as it is."""

_SPELLING = re.compile(
    r"(?:(?P<to>shorter|longer|pixels):(?P<size>[0-9]{1,10})|exact:(?P<width>[0-9]{1,7})x(?P<height>[0-9]{1,7}))"
    r"(?::(?P<filter>nearest|box|bilinear|hamming|bicubic|lanczos))?(?P<shrink>:shrink)?(?P<draft>:draft)?"
)
_EXAMPLES = "none, shorter:512, longer:1024:lanczos, pixels:200000, exact:512x384, shorter:512:bicubic:shrink:draft"


def resized_size(how: Resize, height: int, width: int) -> tuple[int, int]:
    """Return the height and width that a picture of `height` x `width` pixels is made.

    Sides in proportion are cut to whole pixels, as torchvision's ``Resize`` does, and are 1 at least; ``pixels`` is
    never exceeded.
    """
    if isinstance(how.size, tuple):
        return how.size
    wanted = how.size
    if how.to == "pixels":
        if how.when == "shrink" and height * width <= wanted:
            return height, width
        down, across = math.isqrt(wanted * height // width), math.isqrt(wanted * width // height)
        return max(1, min(down, wanted)), max(1, min(across, wanted))
    side = min(height, width) if how.to == "shorter" else max(height, width)
    if how.when == "shrink" and side <= wanted:
        return height, width
    return max(1, wanted * height // side), max(1, wanted * width // side)


def judged_size(how: Resize | None, height: int, width: int, pixel_limit: int) -> tuple[int, int]:
    """Return the height and width at which a picture of `height` x `width` pixels is judged.

    Raises
    ------
    ImageError
        If a side of it, or of what it would become, is too long, or that would be larger than the limit.
    """
    if how is None:
        return height, width
    size = resized_size(how, height, width)
    becomes = f"{width} x {height} pixels, resized to {size[1]} x {size[0]} ({format_resize(how)})"
    if max(height, width, *size) > MAX_RESIZED_SIDE:
        raise ImageError(f"{becomes}: sides of up to {MAX_RESIZED_SIDE} pixels can be resized; crop it")
    if size[0] * size[1] > max(pixel_limit, height * width):
        raise ImageError(f"{becomes}: over the limit of {pixel_limit} pixels; crop it")
    return size


def target_of(how: Resize | None, pixel_limit: int) -> Target | None:
    """Return what tells a decoder the size that will be made of a picture; None where it stays as it is."""
    if how is None:
        return None
    return Target(size=lambda height, width: judged_size(how, height, width, pixel_limit), draft=how.draft)


def load_judged(
    source: Source,
    how: Resize | None,
    *,
    pixel_limit: int,
    color_space: ColorSpace,
    frame: Frame | None = None,
) -> LoadedImage:
    """Load an image at the size it is judged at.

    Raises
    ------
    FileError, ImageError, UsageError
        As `iqa_runtime.images.load_image` and `judged_size`.
    """
    target = target_of(how, pixel_limit)
    loaded = load_with_color(source, pixel_limit=pixel_limit, color_space=color_space, target=target, frame=frame)
    size = judged_size(how, loaded.height, loaded.width, pixel_limit)
    if how is None or size == loaded.pixels.shape[:2]:
        return loaded
    return replace(loaded, pixels=resize(loaded.pixels, size, how.filter))


def shrunk(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Return a copy of a picture to look at: H x W x 3 becomes h x w x 3, neither side longer than `longest`."""
    if max(image.shape) > MAX_RESIZED_SIDE:  # a line, of which every so many pixels do
        image = np.ascontiguousarray(image[:: _steps(image.shape[0]), :: _steps(image.shape[1])])
    return resize(image, shrunk_size(longest, *image.shape[:2]), "bilinear")


def shrunk_size(longest: int, height: int, width: int) -> tuple[int, int]:
    """Return the height and width at which neither side is longer than `longest`; never more than they are."""
    factor = min(1.0, longest / max(height, width))
    return max(1, round(factor * height)), max(1, round(factor * width))


def _steps(side: int) -> int:
    return -(-side // MAX_RESIZED_SIDE)


def parse_resize(text: str) -> Resize | None:
    """Read how to resize as it is written on a command line.

    Parameters
    ----------
    text
        ``none``; or ``shorter:SIZE``, ``longer:SIZE``, ``pixels:NUMBER`` or ``exact:WIDTHxHEIGHT``, then the filter
        (``bicubic`` if it is left out), then ``shrink`` (never enlarge) and ``draft``, each after a colon.

    Returns
    -------
    Resize or None
        None for ``none``.

    Raises
    ------
    UsageError
        If the text is none of these or a number is out of range.
    """
    if text == NOTHING:
        return None
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise UsageError(f"``resize={text}``: no size; write one such as {_EXAMPLES}")
    fields: dict[str, Any] = match.groupdict()
    size = int(fields["size"]) if fields["to"] else (int(fields["height"]), int(fields["width"]))
    how = Resize(
        to=fields["to"] or "exact",
        size=size,
        filter=fields["filter"] or "bicubic",
        when="shrink" if fields["shrink"] else "always",
        draft=fields["draft"] is not None,
    )
    return check_resize(how)


def given_resize(how: str | Resize) -> Resize | None:
    """Return how a caller wants pictures resized: a `Resize`, or its text as in `parse_resize`.

    Raises
    ------
    UsageError
        As `parse_resize` and `check_resize`.
    """
    return parse_resize(how) if isinstance(how, str) else check_resize(how)


def check_resize(how: Resize) -> Resize:
    """Return `how` if it can be followed.

    Raises
    ------
    UsageError
        If a number is out of range, or does not go with the rest.
    """
    try:
        how = msgspec.convert(msgspec.to_builtins(how), Resize)
    except (msgspec.ValidationError, TypeError) as error:
        raise UsageError(f"``resize={how}``: {error}") from error
    for _, complaint in about_resize("", how):
        raise UsageError(f"``resize={format_resize(how)}``: {complaint}")
    return how


def format_resize(how: Resize | None) -> str:
    """Write how pictures are resized the way `parse_resize` reads it."""
    if how is None:
        return NOTHING
    size = f"{how.size[1]}x{how.size[0]}" if isinstance(how.size, tuple) else str(how.size)
    shrink = ["shrink"] if how.when == "shrink" else []
    return ":".join([how.to, size, how.filter, *shrink, *(["draft"] if how.draft else [])])


def with_resize(contract: Contract, how: Resize | None) -> Contract:
    """Return a contract whose pictures, references too, are resized so."""
    inputs = (replace(tensor, resize=how) if tensor.layout != "features" else tensor for tensor in contract.inputs)
    return replace(contract, inputs=tuple(inputs))


def choose_resize(contract: Contract, resize: str | Resize | None) -> Resize | None:
    """Return how pictures are resized: as the contract says, or as a caller wants it instead.

    Raises
    ------
    UsageError
        If it cannot be done, or the reference inside the artefact has its size.
    """
    image = contract.input("image")
    if resize is None:
        return None if image is None else image.resize
    if contract.baked_reference is not None:
        raise UsageError("``resize``: the reference inside this artefact has its size; leave it out")
    how = given_resize(resize)
    if image is not None and contract.patch_plan.kind == "whole" and not contract.has_own_size:
        height, width = image.shape[-2:]
        if how is None or how.size != (height, width):
            raise UsageError(
                f"``resize={format_resize(how)}``: this artefact takes whole pictures of {width} x {height} pixels; "
                f"choose another filter, as in exact:{width}x{height}:lanczos, or leave it out"
            )
    return how
