"""The export job: checkpoint to network to deploy form to ONNX with its contract, checked by parity, written at once.

Three forms of an artefact differ in where the reference is: an input beside the image, cached features from a second
graph, or a constant. Systems without a reference have only the first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from iqa_calibration.graphs import finishing
from iqa_calibration.graphs.reading_back import check_scores, check_signature
from iqa_calibration.graphs.runner import Runner
from iqa_calibration.graphs.structure import opset_of
from iqa_export.adopting import ForeignGraph
from iqa_export.checkpoints import Checkpoint, load_into
from iqa_export.onnx_export import OPSET, to_onnx
from iqa_export.outputs import ExportError, check_built, check_outputs
from iqa_export.parity import (
    OutputParity,
    ParityError,
    compare,
    compare_plain,
    explain_batches,
    run_as_written,
    run_onnx,
    run_otherwise,
)
from iqa_export.report import GraphReport, Report
from iqa_export.samples import Items, crop_items, plain_inputs, sample_inputs
from iqa_export.systems import GraphChoice, System
from iqa_runtime import __version__
from iqa_runtime.artefacts.contract_rules import complaints
from iqa_runtime.artefacts.files import REFERENCE_ENCODER_SUFFIX
from iqa_runtime.backends import GraphSpec
from iqa_runtime.contract import OWN_SIZE, BakedReference, Contract, FileDigest, PatchPlan, Resize, TensorInput, Weights
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.files.overwriting import check_output, replaced_at_once, write_at_once
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, check_frame
from iqa_runtime.scoring.patch_plans import example_size, positions
from iqa_runtime.scoring.resizing import format_resize, load_judged, with_resize

PARITY_BATCHES = (1, 4)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to export.

    Attributes
    ----------
    system, choice
        Which network, and which of its graphs.
    checkpoint
        Its parameters; `trained` is False for random ones.
    output
        Path of the artefact; a second graph and the report go beside it.
    patch_plan
        The patch plan of the contract.
    resize
        How pictures, references too, are resized before crops are cut; None if they stay as they are.
    cache_reference
        Write a second graph that computes the features of a reference, and let the artefact take these.
    reference_image
        Make the features of this photograph constants of the artefact.
    frame
        Which image of it is meant, if it is a file of several.
    opset
        ONNX operator set.
    adopted
        A graph that is there already, in the place of the one that PyTorch's exporter would write.
    """

    system: System
    choice: GraphChoice
    checkpoint: Checkpoint
    output: Path
    patch_plan: PatchPlan
    resize: Resize | None = None
    cache_reference: bool = False
    reference_image: Path | None = None
    frame: Frame | None = None
    opset: int = OPSET
    adopted: ForeignGraph | None = None

    @property
    def is_own_oracle(self) -> bool:
        """Whether an adopted graph can only be compared with itself as it came."""
        return self.adopted is not None and getattr(self.system, "source", None) is self.adopted


def export(request: Request) -> Report:
    """Export, check parity, and write the artefact and its report.

    Returns
    -------
    Report
        Also written as ``<stem>.report.json``.

    Raises
    ------
    UsageError, CheckpointError, FileError, ImageError
        If the request cannot be met.
    ExportError
        If the network fails, returns something else than its contract says, or cannot become a graph; what the exporter
        says at length is written as ``<stem>.error.txt``.
    ParityError
        If the graph does not compute what the network does; the report is written, the artefact is not.
    """
    started, output = time.perf_counter(), request.output
    system, choice = request.system, request.choice
    system.check(choice)
    _check_plan(request)
    if request.cache_reference and request.reference_image is not None:
        raise UsageError(
            "``cache_reference`` and ``reference_image``: cache features for any reference, or bake one; choose"
        )
    check_frame(request.frame)
    if request.frame is not None and request.reference_image is None:
        raise UsageError("``frame``: it is about ``reference_image``; give that, or leave it out")
    has_features = choice.task != "nr" and system.features_of(choice.variant) is not None
    reference = {"cache_reference": request.cache_reference, "reference_image": request.reference_image is not None}
    for name, wanted in reference.items():
        if wanted and not has_features:
            raise UsageError(f"``{name}``: {system.name} {choice.task} has no features of a reference; leave it out")
    check_output(output, ".onnx")
    network = system.build(choice.variant).requires_grad_(False)
    check_built(network)
    load_into(network, request.checkpoint, system.key_map(choice.variant))
    encoder = output.with_name(f"{output.stem}{REFERENCE_ENCODER_SUFFIX}")
    try:
        with replaced_at_once([encoder, output] if request.cache_reference else [output]) as folder:
            written = _write_graphs(request, network, folder)
            report, scores = _check(request, network, written, started)
            report.write(output.with_name(f"{output.stem}.report.json"))
            if not report.passed:
                raise ParityError(f"{output.name}: {report.failures()}; no artefact was written")
            check_scores(written.artefact, check_signature(written.artefact), scores)
    except ExportError as error:
        if not error.details:
            raise
        told = output.with_name(f"{output.stem}.error.txt")
        write_at_once(told, error.details.encode())
        raise ExportError(f"{error}; all that the exporter says is in {told.name}", error.details) from error
    return report


def _check_plan(request: Request) -> None:
    """Refuse a patch plan whose crops never make whole items; how many a grid gives depends on the image."""
    plan, size = request.patch_plan, request.system.input_size
    per_item = request.system.crops_per_item_of(request.choice.variant)
    if (plan.kind == "whole") != (request.system.patch_plan.kind == "whole"):
        taken = "whole" if request.system.patch_plan.kind == "whole" else f"as crops of {request.system.crop}"
        raise UsageError(f"``crops``: {request.system.name} takes pictures {taken}; leave it out")
    if plan.kind == "whole" and size != OWN_SIZE and (request.resize is None or request.resize.size != size):
        raise UsageError(
            f"``resize={format_resize(request.resize)}``: {request.system.name} takes whole pictures of {size[1]} x "
            f"{size[0]} pixels; choose another filter, or leave it out"
        )
    count = len(positions(plan, 1, 1))
    if plan.kind != "grid" and count % per_item:
        raise UsageError(
            f"``crops`` gives {count} crops, {request.system.name} takes {per_item} at a time: random:{per_item}, say"
        )


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The graphs of a job in its temporary folder, and what parity needs to feed them."""

    artefact: Path
    contract: Contract
    macs: int | None
    encoder: Path | None = None
    encoder_macs: int | None = None
    baked: NDArray[np.float32] | None = None


def _write_graphs(request: Request, network: nn.Module, folder: Path) -> _Written:
    system, choice = request.system, request.choice
    image = system.crop_input("image", variant=choice.variant)
    artefact = folder / request.output.name
    if request.cache_reference:
        encoder_module, scorer = system.reference_split(network, choice)
        encoder = folder / f"{request.output.stem}{REFERENCE_ENCODER_SUFFIX}"
        reference = system.crop_input("reference", variant=choice.variant)
        model = to_onnx(encoder_module, [reference], ["reference_features"], opset=request.opset)
        encoder_macs = finishing.count_macs(model)
        finishing.save(model, encoder)
        contract = replace(
            _contract(request, (image, system.feature_input(choice.variant))),
            reference_encoder=FileDigest.of_file(encoder),
        )
        contract, macs = _write_artefact(request, scorer, contract, artefact)
        return _Written(artefact=artefact, contract=contract, macs=macs, encoder=encoder, encoder_macs=encoder_macs)
    if request.reference_image is not None:
        return _write_baked(request, network, request.reference_image, artefact)
    inputs = (image,) if choice.task == "nr" else (image, system.crop_input("reference", variant=choice.variant))
    contract, macs = _write_artefact(request, system.deployed(network, choice), _contract(request, inputs), artefact)
    return _Written(artefact=artefact, contract=contract, macs=macs)


def _write_baked(request: Request, network: nn.Module, photograph: Path, artefact: Path) -> _Written:
    system, choice, plan = request.system, request.choice, request.patch_plan
    tensor = system.crop_input("reference", variant=choice.variant)
    loaded = load_judged(
        photograph,
        request.resize,
        pixel_limit=DEFAULT_PIXEL_LIMIT,
        color_space=tensor.color_space,
        frame=request.frame,
    )
    pixels = loaded.pixels
    encoder, _ = system.reference_split(network, choice)
    count = len(positions(plan, *pixels.shape[:2]))
    crops = system.baked_crops(choice, count)
    if count != crops:
        raise UsageError(
            f"``crops`` gives {count} crops of {photograph.name}, {system.name} bakes {crops}; choose a plan of {crops}"
        )
    items = crop_items(pixels, tensor, plan)
    with torch.no_grad():
        features = torch.cat([encoder.eval()(torch.from_numpy(item[None])) for item in items])
    file = FileDigest.of_file(photograph)
    contract = replace(
        _contract(request, (system.crop_input("image", crops),)),
        baked_reference=BakedReference(file=file.file, sha256=file.sha256, width=loaded.width, height=loaded.height),
    )
    contract, macs = _write_artefact(request, system.baked(network, choice, features), contract, artefact)
    return _Written(artefact=artefact, contract=contract, macs=macs, baked=items)


def _write_artefact(request: Request, module: nn.Module, contract: Contract, path: Path) -> tuple[Contract, int | None]:
    """Export one graph, put its contract in, write it; return the contract as written and the multiplications."""
    for where, complaint in complaints(contract):
        raise UsageError(
            f"{request.system.name}: {where} of its contract: {complaint}; correct what the system declares"
        )
    spec = GraphSpec.of_artefact(contract)
    check_outputs(module, spec, example_size(contract))
    if request.adopted is None:
        model = to_onnx(module, contract.inputs, spec.output_names, opset=request.opset, patch_plan=contract.patch_plan)
    else:
        model = request.adopted.adopted(contract.inputs, spec, opset=request.opset)
    macs = finishing.count_macs(model)
    contract = replace(contract, opset=opset_of(model), gmac=macs / 1e9 if macs else None)
    contract = finishing.embed_contract(model, contract)
    finishing.save(model, path)
    return contract, macs


def _contract(request: Request, inputs: tuple[TensorInput, ...]) -> Contract:
    system, choice, checkpoint = request.system, request.choice, request.checkpoint
    contract = Contract(
        model=system.name,
        variant=choice.variant,
        task=choice.task,
        options={} if choice.segment is None else {"segment": choice.segment},
        precision="fp32",
        target="any",
        opset=request.opset,
        inputs=inputs,
        patch_plan=request.patch_plan,
        pooling=system.pooling,
        score=system.score_of(choice.variant),
        maps=system.maps_of(choice.variant) if choice.maps else (),
        extras=tuple(output for output in system.extras_of(choice.variant) if output.name in choice.extras),
        faithful=system.faithful_of(choice.variant),
        weights=Weights(
            file=checkpoint.file,
            sha256=checkpoint.sha256,
            trained=checkpoint.trained,
            licence=_licence(request) if checkpoint.trained else "none",
            trained_on=_stated(checkpoint, "trained_on", system.trained_on or "not stated in the checkpoint")
            if checkpoint.trained
            else "nothing: random weights",
            entry=checkpoint.entry,
        ),
        exporter=f"iqa-deploy {__version__}",
    )
    return with_resize(contract, request.resize)


def _licence(request: Request) -> str:
    unstated = f"that of the checkpoint; {request.system.title}'s code: {request.system.licence}"
    return _stated(request.checkpoint, "licence", request.system.weights_licence or unstated)


def _stated(checkpoint: Checkpoint, key: str, unstated: str) -> str:
    """Return what a checkpoint says of itself, on one line, without what a terminal would act on."""
    words = checkpoint.metadata.get(key, "").split()
    return "".join(character for character in " ".join(words) if character.isprintable()) or unstated


def _check(request: Request, network: nn.Module, written: _Written, started: float) -> tuple[Report, NDArray[Any]]:
    """Run the network as published and the graphs on the same samples; also return every score of a graph."""
    system, choice, contract = request.system, request.choice, written.contract
    names = GraphSpec.of_artefact(contract).output_names
    as_written = system.as_written(network, choice)
    encoder = None if written.encoder is None else _runner(written.encoder)
    samples = _Samples(sample_inputs(contract), request, written, encoder)
    plain = _Samples(plain_inputs(contract), request, written, encoder)
    oracle = run_as_written(as_written, samples.as_written, names)
    expected = samples.per_item(oracle.outputs)
    extremes = plain.per_item(run_as_written(as_written, plain.as_written, names).outputs)
    # An item far off is asked about for each output and batch size, and runs the network four times.
    otherwise, rows = cache(partial(plain.otherwise, as_written, names)), list[OutputParity]()
    graph, scores, plain_scores = _runner(written.artefact), [], []
    for batch in (1,) if contract.has_own_size else PARITY_BATCHES:
        outputs = run_onnx(graph, samples.feeds, batch)
        scores.append(np.asarray(outputs[0]))
        rows += compare(names, expected, outputs, batch)
        scales = [row.largest if np.isfinite(row.largest) else 0.0 for row in rows[-len(names) :]]
        outputs = run_onnx(graph, plain.feeds, batch)
        rows += compare_plain(names, extremes, outputs, batch, scales, otherwise)
        plain_scores.append(np.extract(np.isfinite(outputs[0]), outputs[0]))
    observed = np.concatenate(scores)
    report = Report(
        contract=contract,
        scores=(float(observed.min()), float(observed.max())),
        ignored=request.checkpoint.ignored,
        graphs=tuple(GraphReport.of_file(path, macs) for path, macs in _sizes(written)),
        gmac_as_written=None
        if request.is_own_oracle or contract.has_own_size
        else oracle.gmac * samples.crops_per_item,
        oracle="the graph as it came" if request.is_own_oracle else "PyTorch",
        parity=explain_batches(rows),
        seconds=time.perf_counter() - started,
    )
    return report, np.concatenate([observed, *plain_scores])


def _runner(path: Path) -> Runner:
    try:
        return Runner(path)
    except ArtefactError as error:
        raise ExportError(f"{error}; write what it cannot run with other operators, in float32") from error


class _Samples:
    """Samples of a parity check as both sides take them.

    Attributes
    ----------
    feeds
        Inputs of the graph.
    as_written
        Inputs of the network as published; where the reference is baked, `crops_per_item` of them make an item.
    """

    def __init__(self, samples: dict[str, Items], request: Request, written: _Written, encoder: Runner | None) -> None:
        images = samples["image"]
        self.feeds, self.as_written, self.crops_per_item = samples, list(samples.values()), 1
        self._items, self._baked = len(images), written.baked is not None
        if encoder is not None:
            features = run_onnx(encoder, {"reference": samples["reference"]}, batch=1)[0]
            self.feeds = {"image": images, "reference_features": features}
        elif written.baked is not None:
            tensor = request.system.crop_input("image", variant=request.choice.variant)
            item = [int(size) for size in tensor.shape[1:]]
            crops = np.reshape(images, (-1, *item))
            self.feeds = {"image": images}
            self.as_written = [crops, np.tile(written.baked, (self._items, *(1 for _ in item)))]
            self.crops_per_item = len(crops) // self._items

    def per_item(self, outputs: tuple[Items, ...]) -> tuple[Items, ...]:
        """Return what one item of the graph scores: the mean of its crops where the reference is baked."""
        if not self._baked:
            return outputs
        return tuple(np.reshape(values, (self._items, -1)).mean(1) for values in outputs)

    def otherwise(self, module: nn.Module, names: list[str], index: int) -> list[list[NDArray[np.float64]]]:
        """Run one item of the network as published as `run_otherwise` does."""
        crops = range(index * self.crops_per_item, (index + 1) * self.crops_per_item)
        runs = zip(*(run_otherwise(module, self.as_written, crop, names) for crop in crops), strict=True)
        whole = [[np.concatenate(parts) for parts in zip(*run, strict=True)] for run in runs]
        return [[values.reshape(1, -1).mean(1) for values in run] for run in whole] if self._baked else whole


def _sizes(written: _Written) -> list[tuple[Path, int | None]]:
    sizes = [(written.artefact, written.macs), (written.encoder, written.encoder_macs)]
    return [(path, macs) for path, macs in sizes if path is not None]
