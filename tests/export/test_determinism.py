"""A real network gives the same bits however it is run; the runtime's own tests have small graphs only."""

from pathlib import Path

import numpy as np
import pytest

from iqa_export.exporting import Request, export
from iqa_export.systems import GraphChoice, find_system
from iqa_export.weights import load_checkpoint
from iqa_runtime import Scorer

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "examples" / "photographs").glob("*.jpg"))
SCORED, REFERENCE = PHOTOGRAPHS[:8], PHOTOGRAPHS[-1]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    system = find_system("cvrkd")
    path = tmp_path_factory.mktemp("determinism") / "cvrkd.onnx"
    request = Request(
        system=system,
        choice=GraphChoice(variant="student", task="nar"),
        checkpoint=load_checkpoint(system, "random:0", "student"),
        output=path,
        patch_plan=system.patch_plan,
        cache_reference=True,
    )
    export(request)
    return path


@pytest.mark.slow
def test_scores_of_a_real_network_do_not_depend_on_how_they_are_made(artefact: Path) -> None:
    made: list[dict[str | None, str]] = []
    for batch_size, threads in ((1, 1), (3, 2), (8, 2)):
        order = np.random.default_rng(len(made)).permutation(len(SCORED))
        with Scorer(artefact, batch_size=batch_size, threads=threads) as scorer:
            results = list(scorer.score_many([SCORED[index] for index in order], REFERENCE))
        assert all(result.error is None for result in results)
        made.append({result.path: str(result.value) for result in results})  # as many digits as tell all bits
    assert made[1:] == made[:1] * (len(made) - 1)
    assert len(set(made[0].values())) == len(SCORED)
