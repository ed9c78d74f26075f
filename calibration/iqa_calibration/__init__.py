"""ONNX to ONNX: what is done to an exported graph on any CPU, without the network it came from.

>>> import iqa_calibration
>>> report = iqa_calibration.calibrate("yoto.onnx", precision="int8", images="photographs")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqa_calibration.api import calibrate as calibrate

__all__ = ["calibrate"]


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first asked for (PEP 562), so that the import of the package is light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iqa_calibration import api

    return getattr(api, name)
