"""From a trained PyTorch IQA network to an artefact that the lean runtime can score with.

>>> import iqa_export
>>> report = iqa_export.export("yoto", weights="yoto.pth", variant="swin")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqa_export.api import export as export
    from iqa_export.engine.api import build_engine as build_engine
    from iqa_export.published.api import fetch_weights as fetch_weights

__all__ = ["build_engine", "export", "fetch_weights"]

_MODULES = {"build_engine": "engine.api", "export": "api", "fetch_weights": "published.api"}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first asked for (PEP 562), so that the import of the package is light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
