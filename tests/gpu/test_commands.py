"""The commands a user types on a machine with a GPU, from the artefact to scores and speeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from command_line import invoke
from iqa_export.commands import engine as engine_cli
from iqa_export.engine import why_no_engine
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.commands import bench as bench_cli
from iqa_runtime.commands import run as run_cli

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

ROUNDING = 1e-6
"""What one JSON row may lose of a float32 score."""


def run(main: Callable[[], object], *arguments: str | Path) -> str:
    result = invoke(main, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Any]) -> Path:
    """A folder of the pictures, without loss, in their order."""
    (tmp_path / "pictures").mkdir()
    for index, (picture, _) in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "pictures" / f"{index:03}.png"), picture[..., ::-1])
    return tmp_path / "pictures"


def test_iqa_run_scores_a_folder(
    engine: Callable[[str], Path], score: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    plan = engine("fp16")
    run(run_cli.main, plan, folder, "--output", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [row["score"] for row in rows] == pytest.approx(score(plan).tolist(), rel=ROUNDING)


def test_iqa_run_checks_an_installation(engine: Callable[[str], Path]) -> None:
    assert "runs on" in run(run_cli.main, engine("fp32"), "--check")


def test_iqa_bench_splits_a_run(engine: Callable[[str], Path], tmp_path: Path, gpu: Any) -> None:
    output = tmp_path / "bench.json"
    run(bench_cli.main, engine("fp16"), "--seconds", "0.1", "--batch-sizes", "1,8", "--output", output)
    report = json.loads(output.read_text(encoding="utf-8"))
    stages = {stage["name"]: stage["times"]["p50"] for stage in report["stages"]}
    assert min(stages[name] for name in ("host_to_device", "compute", "device_to_host")) > 0
    assert stages["image"] > stages["compute"]
    assert [row["items"] for row in report["batches"]] == [1, 8]
    assert gpu.name in report["provider"]


def test_iqa_export_builds_an_engine_that_runs_here(tmp_path: Path, folder: Path) -> None:
    if reason := why_no_engine():
        pytest.skip(reason)
    plan = tmp_path / "edge.plan"
    run(engine_cli.main, "build", find_artefact("edge-nr"), "--output", plan, "--builder-level", "0")
    rows = run(run_cli.main, plan, folder / "000.png", "--format", "jsonl")
    assert '"score":' in rows
