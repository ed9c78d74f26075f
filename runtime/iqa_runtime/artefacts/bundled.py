"""Artefacts that come with the package, by name, so that scoring works before anything has been exported."""

from __future__ import annotations

import os
from pathlib import Path

from iqa_runtime.errors import UsageError

BUNDLED = ("edge-nr", "edge-fr", "cvrkd-edge-set", "cvrkd-edge-any", "dri-edge", "mfe-edge", "lpips")
"""Names of the artefacts in the package: the edge variants of YOTO, without and with a reference, of CVRKD-IQA, with
references inside and with one given, of DRI-IQA and of MFE-Net; LPIPS with AlexNet."""

_FAMILIES = {"edge": ("edge-nr", "edge-fr"), "cvrkd-edge": ("cvrkd-edge-set", "cvrkd-edge-any")}
"""Without and with a reference."""

NAMES = (*_FAMILIES, *BUNDLED)
"""All that `find_artefact` knows."""

_FOLDER = Path(__file__).parents[1] / "models"


def find_artefact(artefact: str | os.PathLike[str], *, reference: bool = False) -> Path:
    """Return the path of an artefact given by path or by the name of a bundled one.

    Parameters
    ----------
    artefact
        A path; or one of `BUNDLED`; or ``edge``, which is ``edge-fr`` with a reference and else ``edge-nr``; or
        ``cvrkd-edge``, which is ``cvrkd-edge-any`` with one and else ``cvrkd-edge-set``. A file of such a name comes
        first.
    reference
        Whether images will be compared with a reference.

    Raises
    ------
    UsageError
        If the name is that of a bundled artefact which this installation left out.
    """
    path, name = Path(artefact), os.fspath(artefact)
    if name in _FAMILIES and not path.is_file():
        name = _FAMILIES[name][reference]
    if name not in BUNDLED or path.is_file():
        return path
    bundled = _FOLDER / f"{name}.onnx"
    if not bundled.is_file():
        raise UsageError(f"{artefact}: this installation comes without bundled models; give the path of an artefact")
    return bundled
