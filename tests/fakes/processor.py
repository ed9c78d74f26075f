"""What this processor has."""

from __future__ import annotations


def has_bfloat16() -> bool:
    from iqa_runtime.backends.openvino import _import_openvino

    return "BF16" in _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
