"""The training loop, the same for every recipe: seeded, resumable, logged, keeping the best checkpoint.

A run is a folder:

=================== ===================================================================================================
``best.safetensors`` The network with the best validation, for ``iqa-export --weights``; where it comes from is inside.
                     Of a run without a validation set, that of the last epoch.
``last.pt``          All that the next epoch needs; a run started again on the folder goes on from here.
``metrics.csv``      One row an epoch: learning rate, losses, validation, seconds.
``events.*``         The same for TensorBoard.
=================== ===================================================================================================
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from iqa_runtime.errors import UsageError
from iqa_runtime.files.overwriting import write_at_once
from iqa_training.configuration import LoopConfig
from iqa_training.recipes.base import Batch
from iqa_training.run.batches import Examples, batches
from iqa_training.run.checks import check_sources
from iqa_training.run.log import Log, Row
from iqa_training.run.state import Progress, Run, State

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

ALIKE = 1e-6
"""Share of a score by which equal pictures' may differ: what float32 sums leave, and no judgement."""

Report = Callable[[int, int, dict[str, float]], None]
"""Called after each step with the steps done in the epoch, their number, and the losses."""


def fit(run: Run, report: Report | None = None) -> Progress:
    """Train until the last epoch, from where the folder's last run was left.

    Raises
    ------
    UsageError
        If the training set is smaller than a batch, the recipe cannot use a picture or be validated (`check_sources`),
        the folder's run was of other settings, or losses or scores are no numbers any more.
    FileError, ImageError
        If a picture cannot be read, or the folder read or written.

    Warns
    -----
    UserWarning
        If no validation was defined, for the scores of each were all alike: the last epoch is kept as the best then.
    """
    if len(run.train) < run.loop.batch:
        raise UsageError(f"{len(run.train)} training pictures are fewer than a batch of {run.loop.batch}")
    check_sources(run.recipe, run.train, run.validation)
    torch.manual_seed(run.seed)
    device = torch.device(run.device)
    network = run.recipe.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = run.recipe.optimizer(run.loop)
    steps = len(run.train) // run.loop.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(run.loop, steps * run.loop.epochs))
    scaler = torch.amp.GradScaler(device.type, enabled=run.loop.precision == "float16")
    state = State(run, network, optimizer, schedule, scaler)
    progress = state.restore()
    log = Log(run.folder, progress.rows)
    while progress.epoch < run.loop.epochs:
        started = time.perf_counter()
        losses = _train_epoch(run, network, optimizer, schedule, scaler, progress.epoch, report)
        progress.epoch += 1
        row: Row = {"epoch": progress.epoch, "learning_rate": float(optimizer.param_groups[-1]["lr"]), **losses}
        if progress.epoch % run.loop.validate_every == 0 or progress.epoch == run.loop.epochs:
            validation = validate(run)
            row |= validation
            defined = math.isfinite(validation["selection"])
            if defined and validation["selection"] > progress.best:
                progress.best = validation["selection"]
                _write_best(run, progress)
            elif not defined and not math.isfinite(progress.best):
                _write_best(run, progress)
        row["seconds"] = time.perf_counter() - started
        progress.rows.append(row)
        # The state last: what a kill before it left in the log is taken back when the run goes on.
        log.write(row)
        state.save(progress)
    if run.validation is not None and not math.isfinite(progress.best):
        warnings.warn(
            f"{run.folder}: no epoch has a rank correlation, for the scores of all validation pictures are alike; "
            "best.safetensors is the last epoch",
            stacklevel=2,
        )
    return progress


def validate(run: Run) -> dict[str, float]:
    """Score the validation set, if there is one.

    Returns
    -------
    dict
        ``srcc_<task>`` of each task and their mean, or ``validation_<loss>`` where the recipe trains no score; and
        ``selection``, of which more is better. NaN where scores or labels are all alike, or there is no such set.

    Raises
    ------
    UsageError
        If a score or a loss is no finite number.
    """
    if run.validation is None:
        return {"selection": math.nan}
    network, device = run.recipe.network, torch.device(run.device)
    loader = batches(Examples(run.recipe, run.validation), run.loop, range(len(run.validation)))
    scores: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []
    losses: dict[str, list[float]] = {}
    network.eval()
    # The draws of validation must not move those of training: a run validated more often trains the same.
    with torch.no_grad(), torch.random.fork_rng(), _autocast(run.loop, device):
        torch.manual_seed(run.seed)
        for batch in loader:
            batch = _to(batch, device)
            if run.recipe.trains_score:
                for task, values in run.recipe.predict(batch).items():
                    scores.setdefault(task, []).append(values.float().cpu())
                labels.append(batch["label"].cpu())
            else:
                for name, value in run.recipe.losses(batch).items():
                    losses.setdefault(name, []).append(float(value))
    if not run.recipe.trains_score:
        result = {f"validation_{name}": float(np.mean(values)) for name, values in losses.items()}
        _check_finite("loss", np.array(result["validation_total"]))
        return result | {"selection": -result["validation_total"]}
    truth = torch.cat(labels).numpy()
    result = {f"srcc_{task}": _srcc(torch.cat(values).numpy(), truth) for task, values in scores.items()}
    return result | {"selection": float(np.mean(list(result.values())))}


def _srcc(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Rank correlation; NaN where it is not defined."""
    _check_finite("score", predicted)
    if np.ptp(predicted) <= ALIKE * np.abs(predicted).max() or np.ptp(truth) == 0:
        return math.nan
    return float(stats.spearmanr(predicted, truth).statistic)


def _check_finite(what: str, values: NDArray[np.floating[Any]]) -> None:
    if not np.isfinite(values).all():
        worst = values[~np.isfinite(values)].flat[0]
        raise UsageError(f"a {what} of validation became {worst}; lower learning_rate or set clip")


def _train_epoch(
    run: Run,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    epoch: int,
    report: Report | None,
) -> dict[str, float]:
    """Take one pass over the training set; return the mean of each loss."""
    device = torch.device(run.device)
    run.recipe.start_epoch(run.loop)
    if run.loop.renew_optimizer:
        optimizer.state.clear()  # the moments; rates, and with them the schedule, are elsewhere
    order = np.random.default_rng([run.seed, epoch]).permutation(len(run.train)).tolist()
    steps = len(order) // run.loop.batch
    loader = batches(Examples(run.recipe, run.train, (run.seed, epoch)), run.loop, order[: steps * run.loop.batch])
    totals: dict[str, list[float]] = {}
    for step, batch in enumerate(loader, start=1):
        with _autocast(run.loop, device):
            losses = run.recipe.losses(_to(batch, device))
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(values["total"]):
            raise UsageError(f"the loss became {values['total']} in epoch {epoch + 1}; lower learning_rate or set clip")
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses["total"]).backward()  # type: ignore[no-untyped-call]
        if run.loop.clip > 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), run.loop.clip)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        for name, value in values.items():
            totals.setdefault(name, []).append(value)
        if report is not None:
            report(step, steps, values)
    return {f"loss_{name}": float(np.mean(values)) for name, values in totals.items()}


def rate_factor(loop: LoopConfig, steps: int) -> Callable[[int], float]:
    """Return the factor of the rates by step, counted from 0: linear warm-up, then the schedule that is set.

    Parameters
    ----------
    loop
        Whose warm-up, schedule and epochs are taken.
    steps
        Of all epochs together.
    """
    warm = round(loop.warmup * steps)
    steps_of_epoch = steps // loop.epochs

    def factor(step: int) -> float:
        epoch = step // steps_of_epoch
        if step < warm:
            return (step + 1) / warm
        if loop.compound_drops:
            return float(0.1 ** sum(done // loop.drop_every for done in range(epoch)))
        if loop.drop_every:
            return float(0.1 ** (epoch // loop.drop_every))
        if loop.drop_after:
            return float(0.1 ** sum(epoch >= last for last in loop.drop_after))
        if loop.cosine_epochs:
            return _cosine(epoch / loop.cosine_epochs)
        return _cosine(min(1.0, (step - warm) / max(1, steps - warm)))

    return factor


def _cosine(done: float) -> float:
    """Fall from 1 to 0 as `done` goes from 0 to 1, and rise again beyond."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _autocast(loop: LoopConfig, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, DTYPES[loop.precision], enabled=loop.precision != "float32")


def _write_best(run: Run, progress: Progress) -> None:
    """Write the checkpoint that export takes."""
    entries = {name: value.detach().cpu().contiguous() for name, value in run.recipe.exported().items()}
    metadata = {
        "model": run.recipe.model,
        "variant": run.recipe.variant or "",
        "recipe": run.recipe.name,
        "epoch": str(progress.epoch),
        "selection": f"{progress.best:.6f}" if math.isfinite(progress.best) else "undefined",
        **run.metadata,
    }
    # As bytes, because the library's own file is for its owner's eyes alone.
    write_at_once(run.folder / "best.safetensors", safetensors.torch.save(entries, metadata))
