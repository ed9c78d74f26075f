"""What ``iqa-export`` does, as a function."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from iqa_runtime.arguments import check_path, check_type
from iqa_runtime.contract import PatchPlan, Resize, Task
from iqa_runtime.errors import UsageError, needing
from iqa_runtime.images.header import Frame

if TYPE_CHECKING:
    from iqa_export.adopting import ForeignGraph
    from iqa_export.report import Report
    from iqa_export.systems import System


def export(
    model: str | None = None,
    *,
    module: str | None = None,
    contract: str | os.PathLike[str] | None = None,
    adopt: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_key: str | None = None,
    variant: str | None = None,
    task: Task | None = None,
    segment: str | None = None,
    output: str | os.PathLike[str] | None = None,
    crops: str | PatchPlan | None = None,
    resize: str | Resize | None = None,
    cache_reference: bool = False,
    reference_image: str | os.PathLike[str] | None = None,
    frame: Frame | None = None,
    maps: bool = False,
    restored: bool = False,
    distortion_feature: bool = False,
    distortions: bool = False,
    opset: int | None = None,
) -> Report:
    """Export a trained network to a float32 artefact, and prove that it computes the same.

    Parameters
    ----------
    model
        A system: ``yoto``, ``cvrkd``, ``dri``, ``mfe``, ``lpips``, ``dists``, or one that another package registers.
        None for a network of one's own, which `module` and `contract` tell.
    module
        ``package.module:factory``: what builds the network, a function or class in a module that is installed or lies
        in the current folder. It is imported, and so its code runs.
    contract
        The contract file (TOML) that says what the network eats and what its score means.
    adopt
        An ONNX file that another exporter wrote, to become the artefact with this contract. Parity is that with the
        network, where `module` and `weights` tell it, and else with the file itself.
    weights
        Checkpoint (``.pth`` or ``.safetensors``), or ``random:SEED`` for an untrained network; None for weights that
        come with the source code, where the variant has some.
    weights_key
        Which of several state dicts in the checkpoint, such as ``params_ema``; None where one alone fits.
    variant
        Its variant; None if the weights or the task tell it.
    task
        ``nr``, ``fr`` or ``nar``; None for the variant's first.
    segment
        YOTO with the task ``fr``: ``joint`` or ``single``, as the checkpoint was trained.
    output
        Path to write, ending in ``.onnx``, or an existing folder; the report goes beside it. In a folder the name is
        ``MODEL-VARIANT-TASK.onnx``. None for the folder one is in.
    crops
        Patch plan of the contract: a `iqa_runtime.PatchPlan`, or its text as in
        `iqa_runtime.scoring.patch_plans.parse_patch_plan`; None for the system's.
    resize
        How pictures, references too, are resized before crops are cut: a `iqa_runtime.contract.Resize`, or its text as
        in `iqa_runtime.scoring.resizing.parse_resize`, where ``none`` leaves them as they are; None for the system's.
    cache_reference
        Write a second graph that computes the features of a reference, and let the artefact take these.
    reference_image
        Photograph whose features become constants of the artefact; None for a reference that is an input.
    frame
        ``first``: of a `reference_image` of several images, such as an animation, the first is taken. None: it is an
        error.
    maps, restored, distortion_feature, distortions
        Whether the artefact has quality and weight maps, the restored crop (DRI-IQA), the distortion-aware feature
        (MFE-Net), the probabilities of what was done to the picture (MFE-Net, ``edge``) as outputs, too.
    opset
        ONNX operator set, 20 to 23; None for 20.

    Returns
    -------
    Report
        Also written, as ``<output>.report.json``; ``report.graphs[0].file`` is the name of the artefact.

    Raises
    ------
    UsageError
        If parameters are unknown, or don't go together.
    FileError, ImageError, CheckpointError
        If a file cannot be used.
    ParityError
        If the graph does not compute what the network does; the report is written, the artefact is not.
    DependencyError
        If a library is missing that the export needs.

    Warns
    -----
    UserWarning
        If the weights are random, or if weights and variant were both left to the package.

    Examples
    --------
    >>> report = export("yoto", variant="edge", output="edge.onnx")  # doctest: +SKIP
    >>> report.contract.score.high, report.passed  # doctest: +SKIP
    (1.0, True)
    """
    with needing("the exporter", extras="cpu,export"):
        from iqa_export import exporting
        from iqa_export.onnx_export import OPSET, check_opset
        from iqa_export.systems import GraphChoice, blamed
        from iqa_export.weights import choose_variant, load_checkpoint
    from iqa_runtime.scoring.patch_plans import parse_patch_plan
    from iqa_runtime.scoring.resizing import given_resize

    texts = {
        "model": model,
        "module": module,
        "weights_key": weights_key,
        "variant": variant,
        "task": task,
        "segment": segment,
    }
    for name, text in texts.items():
        check_type(name, text, "text", str)
    for name, path in {
        "contract": contract,
        "adopt": adopt,
        "weights": weights,
        "output": output,
        "reference_image": reference_image,
    }.items():
        check_path(name, path)
    wanted = {"restored": restored, "distortion_feature": distortion_feature, "distortions": distortions}
    for name, switch in ({"cache_reference": cache_reference, "maps": maps} | wanted).items():
        check_type(name, switch, "True or False", bool)
    check_type("crops", crops, "a PatchPlan or its text", str, PatchPlan)
    check_type("resize", resize, "a Resize or its text", str, Resize)
    system, graph = _system(model, module, contract, adopt)
    with blamed(system):
        if task is not None and task not in get_args(Task):
            raise UsageError(f"``task={task}``: there is {', '.join(get_args(Task))}")
        if variant is not None and variant not in system.tasks:
            raise UsageError(f"``variant={variant}``: {system.name} has {', '.join(system.tasks)}")
        opset = check_opset(OPSET if opset is None else opset)
        if weights is None and weights_key is not None:
            raise UsageError(f"``weights_key={weights_key}``: it tells what to take from ``weights``; give them")
        if graph is not None and module is None:
            if weights is not None:
                raise UsageError(
                    "``weights``: ``adopt`` has its own; leave them out, or give ``module`` for parity with PyTorch"
                )
            checkpoint = graph.checkpoint()
        else:
            if weights is None:
                variant, weights = _bundled(system, variant, task)
            checkpoint = load_checkpoint(system, os.fspath(weights), variant, weights_key=weights_key)
        chosen = variant or choose_variant(system, checkpoint.entries.keys(), task)
        extras = tuple(name for name, is_wanted in wanted.items() if is_wanted)
        if contract is not None:  # it lists what there is, and says it all
            maps = maps or bool(system.map_outputs)
            extras = tuple(dict.fromkeys([*(output.name for output in system.extras_of(chosen)), *extras]))
        plan = system.patch_plan_of(chosen)
        choice = GraphChoice(
            variant=chosen,
            task=system.tasks[chosen][0] if task is None else task,
            segment=segment,
            maps=maps,
            extras=extras,
        )
        target = Path() if output is None else Path(output)
        if target.is_dir():
            target /= f"{system.name}-{choice.variant}-{choice.task}.onnx"
        request = exporting.Request(
            system=system,
            choice=choice,
            checkpoint=checkpoint,
            output=target,
            patch_plan=parse_patch_plan(crops, plan) if isinstance(crops, str) else crops or plan,
            resize=system.resize_of(choice) if resize is None else given_resize(resize),
            cache_reference=cache_reference,
            reference_image=None if reference_image is None else Path(reference_image),
            frame=frame,
            opset=opset,
            adopted=graph,
        )
        if not checkpoint.trained:
            warnings.warn(f"untrained: {checkpoint.file} are random weights; scores will mean nothing", stacklevel=2)
        return exporting.export(request)


def _system(
    model: str | None,
    module: str | None,
    contract: str | os.PathLike[str] | None,
    adopt: str | os.PathLike[str] | None,
) -> tuple[System, ForeignGraph | None]:
    """Return the system of a name, or the one that a contract file makes of a module or a graph; also this."""
    from iqa_export.adopting import ForeignGraph
    from iqa_export.factories import Factory
    from iqa_export.systems import find_system
    from iqa_export.systems.contract_file import read_contract_file
    from iqa_export.systems.described import described_system

    own = {"module": module, "adopt": adopt, "contract": contract}
    given = [f"``{name}``" for name, value in own.items() if value is not None]
    if model is not None:
        if given:
            raise UsageError(f"``model={model}``: a system says itself what {' and '.join(given)} would; leave one out")
        return find_system(model), None
    if contract is None or (module is None and adopt is None):
        raise UsageError(
            f"{' and '.join(given) or '``model``'} {'alone' if given else 'is missing'}: give ``model``, the name of a "
            "system; or ``contract``, the file that says what a score means, with ``module``, what builds a network of "
            "your own, or ``adopt``, its ONNX file"
        )
    description = read_contract_file(Path(contract))
    graph = None if adopt is None else ForeignGraph(Path(adopt), description)
    if module is not None:
        return described_system(Path(contract), description, Factory(module, description.network)), graph
    return described_system(Path(contract), graph.description if graph else description, graph), graph


def _bundled(system: System, variant: str | None, task: str | None) -> tuple[str, Path]:
    """Return the variant whose weights come with the source code, and their path; refuse a task they don't know."""
    chosen = next(iter(system.bundled), None) if variant is None else variant
    if chosen is None or chosen not in system.bundled:
        offered = f"; ``variant={' or '.join(system.bundled)}`` needs none" if system.bundled else ""
        raise UsageError(
            f"``weights`` is missing: {system.title} wants {system.weights_source}; "
            f"or random:0 to try the pipeline with an untrained network{offered}"
        )
    taught = system.bundled_tasks.get(chosen, system.tasks[chosen])
    if task in system.tasks[chosen] and task not in taught:
        raise UsageError(
            f"``task={task}``: the weights of its {chosen} variant that come with the package were trained "
            f"for {' and '.join(taught)} alone; give ``weights``"
        )
    if variant is None:
        warnings.warn(
            f"neither ``weights`` nor ``variant``: exporting {system.title}'s {chosen} variant, whose weights come "
            "with the source code",
            stacklevel=3,
        )
    weights = system.bundled[chosen]
    if not weights.is_file():
        raise UsageError(
            f"``weights`` is missing: those of {system.title}'s {chosen} variant are in the repository and the source "
            f"distribution, export/iqa_export/weights/{weights.name}, not in wheels; give the path of a copy"
        )
    return chosen, weights
