"""Folder to scores: photographs of many sizes, from files to JSON lines.

Contenders keep their network loaded and score the photographs in blocks, a block a turn, so that they meet the same
clock and load; start-up is measured by itself. Decoding alone and the model alone say what the whole could be at best.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from speed.commands import command, iqa_run
from speed.turns import Contender, Work

if TYPE_CHECKING:
    from iqa_runtime.backends.batch_run import BatchRun

NETWORKS = {"edge-nr": ("yoto", "edge", "nr"), "yoto-nr": ("yoto", "swin_t", "nr")}
"""System, variant and task of the models that have a job."""

STYLES = {"script": "PyTorch script", "pyiqa": "pyiqa's way of working, imitated"}
DECODING, MODEL = "decoding alone", "the model alone"
CHECKED = 2
"""Scores of the first photographs that contenders are compared by."""


def blocks(model: str, artefact: Path, photographs: Sequence[Path], block: int, threads: int) -> list[Contender]:
    """Return who scores photographs, `block` of them a call."""
    options = {"photographs": [str(path) for path in photographs], "block": block, "threads": threads}
    ours = Contender(name="ours", role="ours", make="speed.jobs:ours", options=options | {"artefact": str(artefact)})
    rivals = [
        Contender(
            name=name,
            role="rival",
            make="speed.jobs:script",
            options=options | {"style": style, "network": NETWORKS[model]},
        )
        for style, name in STYLES.items()
    ]
    return [ours, *rivals]


def parts(artefact: Path, photographs: Sequence[Path], threads: int) -> list[Contender]:
    """Return our whole job on all photographs in one call, and its two large parts alone."""
    options = {
        "artefact": str(artefact),
        "photographs": [str(path) for path in photographs],
        "block": len(photographs),
        "threads": threads,
    }
    return [
        Contender(name="ours", role="ours", make="speed.jobs:ours", options=options),
        Contender(name=DECODING, role="limit", make="speed.jobs:decoding", options=options),
        Contender(name=MODEL, role="limit", make="speed.jobs:model", options=options),
    ]


def start_ups(model: str, artefact: Path, photograph: Path, threads: int) -> list[Contender]:
    """Return commands that score one photograph, from nothing."""
    found = [command("ours: iqa-run", "ours", iqa_run(str(artefact), str(photograph), "--threads", str(threads)))]
    for style, name in STYLES.items():
        arguments = [sys.executable, "-m", "speed.scripts", style, *NETWORKS[model]]
        found.append(command(name, "rival", [*arguments, str(threads), "/dev/null", str(photograph)]))
    return found


def ours(options: dict[str, Any]) -> Work:
    """Score as `iqa-run` does: one stream of photographs, one row each."""
    from iqa_runtime import Scorer
    from iqa_runtime.commands.rows import JsonLinesWriter

    scorer = Scorer(options["artefact"], threads=options["threads"])

    def score(photographs: list[str], rows: TextIO) -> list[float]:
        writer = JsonLinesWriter(rows)
        scores = []
        for result in scorer.score_many(photographs):
            if result.error is not None:
                raise result.error
            writer.write(result.row())
            scores.append(float(result.value or 0))
        return scores

    return _in_blocks(options, score)


def script(options: dict[str, Any]) -> Work:
    from speed.scripts import Script

    system, variant, task = options["network"]
    ready = Script(options["style"], system, variant, task, options["threads"])
    return _in_blocks(options, ready.score)


def decoding(options: dict[str, Any]) -> Work:
    """Decode all photographs with as many threads as the whole job has."""
    from iqa_runtime.images.loading import load_image
    from iqa_runtime.scoring.preparation import prefetch

    photographs: list[str] = options["photographs"]

    def decode() -> None:
        for image in prefetch(load_image, photographs, options["threads"], options["threads"]):
            del image

    return Work(call=decode)


def model(options: dict[str, Any]) -> Work:
    """Run the model on as many items as the photographs have, in batches as `Scorer` makes them, two under way."""
    from iqa_runtime.artefacts.opening import open_artefact
    from iqa_runtime.backends import GraphSpec, choose_backend
    from iqa_runtime.scoring.patch_plans import positions

    artefact = open_artefact(options["artefact"])
    contract = artefact.contract
    backend = choose_backend(artefact, device="cpu").create(
        artefact.graph, GraphSpec.of_artefact(contract), threads=options["threads"]
    )
    backend.activate()
    # Every plan but the grid has as many crops for any size.
    per_image = (
        len(positions(contract.patch_plan, contract.patch_plan.size, contract.patch_plan.size))
        // contract.crops_per_item
    )
    batch = backend.items_per_run * backend.concurrent_runs
    random = np.random.default_rng(0)
    feed = {
        spec.name: random.standard_normal((batch, *spec.item_shape), dtype=np.float32) for spec in backend.spec.inputs
    }
    items = per_image * len(options["photographs"])

    def run() -> None:
        under_way: deque[BatchRun] = deque()
        for first in range(0, items, batch):
            count = min(batch, items - first)
            inputs = {name: values[:count] for name, values in feed.items()}
            under_way.append(backend.begin(inputs, [contract.score.name]))
            if len(under_way) > 2:
                under_way.popleft().result()
        for running in under_way:
            running.result()

    return Work(call=run)


def _in_blocks(options: dict[str, Any], score: Callable[[list[str], TextIO], list[float]]) -> Work:
    """Score the next block of photographs in every call, round and round."""
    photographs: list[str] = options["photographs"]
    block = options["block"]
    starts = itertools.cycle(range(0, len(photographs), block))
    # It has no name and ends with the process.
    rows = tempfile.TemporaryFile("w", encoding="utf-8")  # noqa: SIM115
    checked = score(photographs[:CHECKED], rows)

    def call() -> None:
        begin = next(starts)
        score(photographs[begin : begin + block], rows)

    return Work(call=call, check=checked, facts={"images": block})
