"""Make the package's resources of a trained edge model: ``python tools/bundle_edge.py runs/edge/best.safetensors``.

Weights are rounded to float16 once, before anything else is made of them: the file for PyTorch is half as large, and
the graphs, in float32, compute what PyTorch computes from that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch
import torch

import iqa_runtime
from iqa_export.checkpoints import read_checkpoint
from iqa_export.exporting import Request, export
from iqa_export.report import Report
from iqa_export.systems import GraphChoice, find_system
from iqa_export.systems.yoto import EDGE_WEIGHTS
from iqa_runtime.contract import Task
from iqa_runtime.errors import UsageError
from iqa_runtime.files.overwriting import write_at_once

VARIANT = "edge"


def bundle(checkpoint: Path, weights: Path, models: Path) -> list[Report]:
    """Write the weights and both graphs.

    Parameters
    ----------
    checkpoint
        What ``iqa-train yoto`` wrote for the edge variant.
    weights
        The safetensors file to write, float16.
    models
        Folder for ``edge-nr.onnx`` and ``edge-fr.onnx``.

    Raises
    ------
    UsageError
        If a weight is too large for float16.
    FileError, CheckpointError, ParityError
        If the checkpoint cannot be used.
    """
    system = find_system("yoto")
    trained = read_checkpoint(checkpoint)
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
    write_at_once(weights, safetensors.torch.save(rounded, trained.metadata))
    reports = []
    tasks: tuple[Task, ...] = system.tasks[VARIANT]
    for task in tasks:
        choice = GraphChoice(variant=VARIANT, task=task, maps=True)
        request = Request(
            system=system,
            choice=choice,
            checkpoint=read_checkpoint(weights),
            output=models / f"{VARIANT}-{task}.onnx",
            patch_plan=system.patch_plan,
            resize=system.resize_of(choice),
        )
        reports.append(export(request))
        request.output.with_name(f"{request.output.stem}.report.json").unlink()
    return reports


if __name__ == "__main__":
    for report in bundle(Path(sys.argv[1]), EDGE_WEIGHTS, Path(iqa_runtime.__file__).parent / "models"):
        print(report.contract.task, report.graphs[0], report.failures())
