"""Make the package's resources of a trained edge variant.

    python tools/bundle_edge.py mfe runs/mfe-edge-2/best.safetensors

Weights are rounded to float16 once, before anything else is made of them: the file for PyTorch is half as large, and
the graphs are made of it. Folding changes most of them, so a graph that is stored as float16 is rounded anew; YOTO's,
whose scores are to keep their bits, store as float16 only what folding left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import safetensors.torch
import torch

import iqa_runtime
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.graphs.half_storage import store_in_half
from iqa_export.checkpoints import Checkpoint, read_checkpoint
from iqa_export.exporting import Request, export
from iqa_export.report import Report
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest, Task
from iqa_runtime.errors import UsageError
from iqa_runtime.files.overwriting import write_at_once

VARIANT = "edge"
REFERENCE_SHEET = Path(__file__).parents[1] / "docs" / "models" / "cvrkd-edge-references.jpg"
"""A photograph for each of the five crops; tools/reference_sheet.py makes it."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What the package has of a system's edge variant.

    Attributes
    ----------
    artefacts
        Name and task of each graph.
    references
        Of graphs that compare with the features of a reference: the picture whose features they have inside, or None
        for a second graph that makes them of any.
    maps, extras
        Outputs beside the score.
    exact
        Whether the graphs store as float16, with a Cast behind each, those of their weights alone that it holds.
        Otherwise all: the file is half as large, scores are a little off those of the network in PyTorch.
    """

    artefacts: Mapping[str, Task]
    references: Mapping[str, Path | None] = field(default_factory=dict)
    maps: bool = False
    extras: tuple[str, ...] = ()
    exact: bool = False


BUNDLES = {
    "yoto": Bundle(artefacts={"edge-nr": "nr", "edge-fr": "fr"}, maps=True, exact=True),
    "mfe": Bundle(artefacts={"mfe-edge": "nr"}, extras=("distortions",)),
    "dri": Bundle(artefacts={"dri-edge": "nr"}, extras=("restored",)),
    "cvrkd": Bundle(
        artefacts={"cvrkd-edge-any": "nar", "cvrkd-edge-set": "nar"},
        references={"cvrkd-edge-any": None, "cvrkd-edge-set": REFERENCE_SHEET},
    ),
}


def bundle(name: str, checkpoint: Path, weights: Path, models: Path) -> list[Report]:
    """Write the weights and the graphs.

    Parameters
    ----------
    name
        The system, one of `BUNDLES`.
    checkpoint
        What ``iqa-train`` wrote for its edge variant.
    weights
        The safetensors file to write, float16.
    models
        Folder for the graphs.

    Raises
    ------
    UsageError
        If a weight is too large for float16.
    FileError, CheckpointError, ParityError
        If the checkpoint cannot be used.
    """
    system, chosen = find_system(name), BUNDLES[name]
    trained = read_checkpoint(checkpoint)
    write_at_once(weights, safetensors.torch.save(_rounded(trained, checkpoint), trained.metadata))
    reports = []
    for artefact, task in chosen.artefacts.items():
        choice = GraphChoice(variant=VARIANT, task=task, maps=chosen.maps, extras=chosen.extras)
        request = Request(
            system=system,
            choice=choice,
            checkpoint=read_checkpoint(weights),
            output=models / f"{artefact}.onnx",
            patch_plan=system.patch_plan_of(VARIANT),
            resize=system.resize_of(choice),
            cache_reference=artefact in chosen.references and chosen.references[artefact] is None,
            reference_image=chosen.references.get(artefact),
        )
        reports.append(export(request))
        request.output.with_name(f"{request.output.stem}.report.json").unlink()
        shrink(request.output, exact=chosen.exact)
    return reports


def shrink(artefact: Path, *, exact: bool = False) -> None:
    """Store the weights of an artefact, and of its encoder of references, as float16, as far as `Bundle.exact` says."""
    model, contract = onnx.load(artefact), read_contract(artefact)
    store_in_half(model, exact=exact)
    if contract.reference_encoder is not None:
        encoder = artefact.with_name(contract.reference_encoder.file)
        of_reference = onnx.load(encoder)
        store_in_half(of_reference, exact=exact)
        save(of_reference, encoder)
        contract = replace(contract, reference_encoder=FileDigest.of_file(encoder))
    embed_contract(model, contract)
    save(model, artefact)


def _rounded(trained: Checkpoint, checkpoint: Path) -> dict[str, torch.Tensor]:
    rounded = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in trained.entries.items()
    }
    broken = [name for name, value in rounded.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UsageError(f"{checkpoint}: beyond float16: {', '.join(broken)}; train with weight decay or clip")
    # A normalisation's variance that rounds to zero would divide by epsilon alone.
    for name, value in rounded.items():
        if name.endswith("running_var"):
            rounded[name] = value.clamp(min=torch.finfo(torch.float16).tiny)
    return rounded


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in BUNDLES:
        sys.exit(f"python tools/bundle_edge.py {'|'.join(BUNDLES)} best.safetensors")
    file = find_system(sys.argv[1]).bundled[VARIANT]
    for report in bundle(sys.argv[1], Path(sys.argv[2]), file, Path(iqa_runtime.__file__).parent / "models"):
        print(report.contract.task, report.graphs[0], report.failures())
