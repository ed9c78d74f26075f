"""Tone curves: from the 256 values of a channel to linear light (ICC.1:2022, 10.6 and 10.18; ITU-T H.273, table 3)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
"""Linear light, 0 to 1, of the values 0 to 255."""

_GAMMAS = (0.1, 10.0)  # what a curve may have as exponent (our choice): no device has others, damage has
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}  # by function type
_FIXED = 65536  # s15Fixed16Number

VALUES: Curve = np.arange(256) / 255


class BadProfileError(ValueError):
    """A profile, or what a file says in the place of one, means nothing."""


def _checked_gamma(gamma: float) -> float:
    least, most = _GAMMAS
    if not least <= gamma <= most:
        raise BadProfileError(f"a curve with an exponent of {gamma:g}")
    return gamma


def parse_curve(element: bytes) -> Curve:
    """Read a ``curv`` or ``para`` element.

    Raises
    ------
    BadProfileError
        If it is neither, ends early, has an exponent outside 0.1 to 10 or is constant.
    """
    kind = element[:4]
    try:
        if kind == b"curv":
            curve = _sampled(element)
        elif kind == b"para":
            curve = _parametric(element)
        else:
            raise BadProfileError(f"a curve of type {kind!r}")
    except struct.error as error:
        raise BadProfileError("a curve that ends early") from error
    return checked_curve(curve)


def checked_curve(curve: Curve) -> Curve:
    """Hold a curve to 0 to 1; refuse one that is constant or not of numbers."""
    if not np.isfinite(curve).all():
        raise BadProfileError("a curve without numbers")
    held = np.clip(curve, 0, 1)
    if held.max() - held.min() < VALUES[1]:
        raise BadProfileError("a curve that is constant")
    return held


def power(gamma: float) -> Curve:
    """Return the curve of a power.

    Raises
    ------
    BadProfileError
        If the exponent is not 0.1 to 10.
    """
    return VALUES ** _checked_gamma(gamma)


def piecewise(gamma: float, a: float, b: float, c: float, d: float, e: float = 0.0, f: float = 0.0) -> Curve:
    """Return ``(a x + b)^gamma + e`` from `d` on, ``c x + f`` below."""
    base = np.maximum(a * VALUES + b, 0)
    with np.errstate(over="ignore"):
        return np.where(d <= VALUES, base ** _checked_gamma(gamma) + e, c * VALUES + f)


SRGB = piecewise(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""IEC 61966-2-1."""

REC_709 = piecewise(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
"""ITU-R BT.709, the inverse of what a camera does."""

SMPTE_240 = piecewise(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913)
"""SMPTE ST 240."""


def _sampled(element: bytes) -> Curve:
    (count,) = struct.unpack_from(">I", element, 8)
    if count == 0:
        return VALUES
    if count == 1:
        return power(struct.unpack_from(">H", element, 12)[0] / 256)
    if count > (len(element) - 12) // 2:
        raise BadProfileError(f"a curve of {count} numbers in {len(element)} bytes")
    samples = np.frombuffer(element, ">u2", count, 12)
    return np.asarray(np.interp(VALUES * (count - 1), np.arange(count), samples) / 65535)


def _parametric(element: bytes) -> Curve:
    (kind,) = struct.unpack_from(">H", element, 8)
    if kind not in _PARAMETERS:
        raise BadProfileError(f"a curve of function type {kind}")
    numbers = struct.unpack_from(f">{_PARAMETERS[kind]}i", element, 12)
    gamma, *rest = (number / _FIXED for number in numbers)
    if kind == 0:
        return power(gamma)
    if kind in (1, 2):
        a, b, c = *rest[:2], rest[2] if kind == 2 else 0.0
        if a == 0:
            raise BadProfileError("a curve that divides by 0")
        return piecewise(gamma, a, b, 0, -b / a, c, c)
    return piecewise(gamma, *rest)
