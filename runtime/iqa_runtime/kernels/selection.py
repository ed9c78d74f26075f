"""Which kernels run: those compiled for the best instruction set of the processor, or their NumPy twins."""

from __future__ import annotations

import os

from iqa_runtime.errors import UsageError

try:
    from iqa_runtime import _kernels
except ImportError:
    # setup.py lets the build go on without a compiler; the twins cover that.
    _compiled: tuple[str, ...] = ()
else:
    _compiled = _kernels.instruction_sets()

_ENVIRONMENT = "IQA_KERNELS"


def instruction_set() -> str:
    """Return the name of what runs: ``avx512``, ``avx2``, ``neon``, ``scalar``, or ``numpy`` for the twins.

    Raises
    ------
    UsageError
        If the environment variable ``IQA_KERNELS`` names one that this processor or installation doesn't have.
    """
    available = (*_compiled, "numpy")
    forced = os.environ.get(_ENVIRONMENT)
    if not forced:
        return available[0]
    if forced not in available:
        raise UsageError(
            f"{_ENVIRONMENT}={forced}: not available here; unset the variable or use one of {', '.join(available)}"
        )
    return forced
