"""Measures of a picture with nothing wrong."""

from iqa_runtime.measuring import Measures

UNDISTORTED = Measures(
    width=640,
    height=480,
    sharpness=0.8,
    noise=1.0,
    blockiness=0.0,
    jpeg_quality=None,
    overexposed=0.0,
    underexposed=0.0,
)
