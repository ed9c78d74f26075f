"""Refuse to write over what a run reads: before the first byte is written, not after."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from iqa_runtime.contract import PLAN_SUFFIX, Contract
from iqa_runtime.errors import UsageError

Named = tuple[str, str | os.PathLike[str]]
"""What a file is to the run, in words, and its path."""


def check_targets(targets: Iterable[Named], sources: Iterable[Named]) -> None:
    """Check that no target is a source under whatever name: another spelling, a link, a hard link.

    A target that does not exist yet is no source either.

    Parameters
    ----------
    targets
        Files to be written, by the option that asks for them.
    sources
        Files that are only read.

    Raises
    ------
    UsageError
        If writing one would destroy another; the message names both.
    """
    existing: dict[tuple[int, int], Named] = {}
    for option, path in targets:
        identity = _identity(path)
        if identity is not None:
            existing[identity] = option, path
    if not existing:
        return
    for what, path in sources:
        identity = _identity(path)
        if identity in existing:
            option, target = existing[identity]
            raise UsageError(
                f"{option}: {os.fspath(target)} would overwrite {what} ({os.fspath(path)}); choose another"
            )


def files_of_artefact(artefact: Path, contract: Contract) -> list[Named]:
    """Return the files that an artefact consists of: itself, its reference encoder, descriptions of engines."""
    encoder = contract.reference_encoder
    files: list[Named] = [("the artefact", artefact)]
    if artefact.suffix.lower() == PLAN_SUFFIX:
        # Here and not above, because only engines need it.
        from iqa_runtime.artefacts.engine_file import encoder_plan, json_path

        plans = [artefact] if encoder is None else [artefact, encoder_plan(artefact)]
        files += [("the artefact's reference encoder", plan) for plan in plans[1:]]
        files += [("the description of an engine", json_path(plan)) for plan in plans]
    elif encoder is not None:
        files.append(("the artefact's reference encoder", artefact.with_name(encoder.file)))
    return files


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return what tells a file from every other one on this host; None if there is none to lose."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
