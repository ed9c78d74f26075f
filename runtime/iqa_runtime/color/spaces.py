"""RGB spaces by their primaries: known ones by name, and the code points of ITU-T H.273."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color import curves
from iqa_runtime.color.curves import BadProfileError, Curve

Matrix = NDArray[np.float64]

D50 = np.array([0.9642, 1.0, 0.8249])
"""XYZ of the white of profiles (ICC.1:2022, 7.2.16)."""

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SINGULAR = 1e-4
"""Determinant of colorants below which three colours are no basis; sRGB has 0.21, the smallest space in use 0.05."""

_D65, _D50_XY, _C, _DCI, _EQUAL = (0.3127, 0.3290), (0.3457, 0.3585), (0.310, 0.316), (0.314, 0.351), (1 / 3, 1 / 3)
_REC_709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_REC_601 = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_REC_2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_ADOBE = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060)
_PROPHOTO = (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)

ADOBE_GAMMA = 563 / 256
"""Adobe RGB (1998) Color Image Encoding, 4.3.1.2."""

CICP_UNSPECIFIED = 2  # primaries and transfers are those of sRGB then
CICP_LINEAR, CICP_SRGB = 8, 13
HDR_CURVES = {16: "PQ", 18: "HLG"}
"""Transfers that have no meaning in sRGB without a choice, by code point."""

_CICP_PRIMARIES = {
    1: (_D65, _REC_709),
    CICP_UNSPECIFIED: (_D65, _REC_709),
    4: (_C, (0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: (_D65, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: (_D65, _REC_601),
    7: (_D65, _REC_601),
    8: (_C, (0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: (_D65, _REC_2020),
    10: (_EQUAL, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    11: (_DCI, _P3),
    12: (_D65, _P3),
    22: (_D65, (0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_CICP_CURVES = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), curves.REC_709),
    **dict.fromkeys((CICP_UNSPECIFIED, CICP_SRGB), curves.SRGB),
    4: curves.power(2.2),
    5: curves.power(2.8),
    7: curves.SMPTE_240,
    CICP_LINEAR: curves.VALUES,
}


def colorants(chromaticities: tuple[float, ...], white: tuple[float, float] = _D65) -> Matrix:
    """Return XYZ of red, green and blue as columns, seen under D50 (Bradford), as profiles have them.

    Parameters
    ----------
    chromaticities
        x and y of red, of green and of blue.
    white
        x and y of white.

    Raises
    ------
    BadProfileError
        If they are no basis, not within -1 to 1, or white has no light.
    """
    x, y = np.array(chromaticities).reshape(3, 2).T
    basis = np.stack([x, y, 1 - x - y])
    if max(*map(abs, chromaticities), *white) > 1 or white[1] <= 0 or abs(np.linalg.det(basis)) < _SINGULAR:
        raise BadProfileError("primaries that are no basis")
    white_xyz = np.array([white[0], white[1], 1 - white[0] - white[1]]) / white[1]
    unadapted = basis * np.linalg.solve(basis, white_xyz)
    source, target = _BRADFORD @ white_xyz, _BRADFORD @ D50
    if (source <= 0).any():
        raise BadProfileError("a white without light")
    return np.asarray(np.linalg.inv(_BRADFORD) @ ((target / source)[:, None] * (_BRADFORD @ unadapted)))


SRGB_COLORANTS = colorants(_REC_709)
ADOBE_COLORANTS = colorants(_ADOBE)
_TO_SRGB = np.linalg.inv(SRGB_COLORANTS)

_KNOWN = (
    ("Display P3", colorants(_P3), curves.SRGB),
    ("Adobe RGB", ADOBE_COLORANTS, curves.power(ADOBE_GAMMA)),
    ("ProPhoto RGB", colorants(_PROPHOTO, _D50_XY), curves.power(1.8)),
    ("Rec. 2020", colorants(_REC_2020), curves.REC_709),
    ("Rec. 709", SRGB_COLORANTS, curves.REC_709),
)
_NEAR_COLORANTS, _NEAR_CURVE = 3e-3, 1e-2


def to_srgb_matrix(source: Matrix) -> Matrix:
    """Return what turns light of colorants into that of sRGB's.

    Raises
    ------
    BadProfileError
        If the colorants are no basis.
    """
    if not np.isfinite(source).all() or abs(np.linalg.det(source)) < _SINGULAR:
        raise BadProfileError("colorants that are no basis")
    return np.asarray(_TO_SRGB @ source)


def name_of(source: Matrix, tones: NDArray[np.float64]) -> str | None:
    """Return what a space is called, by its colorants (3, 3) and curves (3, 256); None if it has no name here."""
    for name, known, curve in _KNOWN:
        if np.abs(source - known).max() <= _NEAR_COLORANTS and np.abs(tones - curve).max() <= _NEAR_CURVE:
            return name
    return None


def chromaticities_of(primaries: int) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Return x and y of white, and those of red, green and blue, of a code point.

    Raises
    ------
    BadProfileError
        If there is no such code point here.
    """
    if primaries not in _CICP_PRIMARIES:
        raise BadProfileError(f"primaries {primaries}")
    return _CICP_PRIMARIES[primaries]


def curve_of(transfer: int) -> Curve:
    """Return the curve of a code point.

    Raises
    ------
    BadProfileError
        If there is no such code point here.
    """
    if transfer not in _CICP_CURVES:
        raise BadProfileError(f"transfer {transfer}")
    return _CICP_CURVES[transfer]


def of_cicp(primaries: int, transfer: int, *, full_range: bool) -> tuple[Matrix, Curve]:
    """Return colorants and curve of code points; white and black of a narrow range are 235 and 16.

    Raises
    ------
    BadProfileError
        If there is no such space here.
    """
    white, chromaticities = chromaticities_of(primaries)
    curve = curve_of(transfer)
    if not full_range:
        curve = np.interp((255 * curves.VALUES - 16) / 219, curves.VALUES, curve)
    return colorants(chromaticities, white), curve
