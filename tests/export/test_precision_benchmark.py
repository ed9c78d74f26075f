"""benchmarks/precision.py: rows take turns, pieces add up to one table, and an end-to-end run of one model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from command_line import invoke

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    specification = importlib.util.spec_from_file_location("precision_benchmark", ROOT / "benchmarks/precision.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up.
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_calls_take_turns_after_one_that_does_not_count(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(benchmark, "SETTLING", 0)
    calls, made = benchmark.Calls(), []
    calls.add("a", "one", lambda: made.append("a"), 1)
    calls.add("b", "all", lambda: made.append("b"), 4)
    # Each measured call lasts from one tick of a second to the next.
    assert calls.measure(3) == {("a", "one"): 1000, ("b", "all"): 250}
    assert made == list("ab" * 4)


def test_the_table_has_every_row_and_leaves_open_what_was_not_measured(benchmark: ModuleType) -> None:
    measured = benchmark.Row(
        precision="int8", backend="openvino", megabytes=2.31, one_core_ms=4.26, all_cores_ms=2.2, times_fp32=2.04,
        times_eager=40.0, largest=0.026, mean=0.0127, srcc=0.9951, converted=66, kept_float=31, verdict="untrained",
    )  # fmt: skip
    refused = benchmark.Row(precision="fp16", backend="", verdict="refused by the gate")
    models = {"edge-nr": {"rows": [vars(measured)]}, "mfe": {"rows": [vars(refused)]}}
    head, rule, *rows = benchmark.table(models)
    assert rows == [
        "| edge-nr | int8 | openvino | 2.3 | 4.3 | 2.2 | 2.0 | 40.0 | 2.60% | 1.27% | 0.99510 | 66 / 31 | untrained |",
        "| mfe | fp16 |  |  |  |  |  |  |  |  |  |  | refused by the gate |",
    ]
    assert {line.count("|") for line in (head, rule, *rows)} == {14}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:. calibration images:UserWarning")
@pytest.mark.openvino
def test_one_model_is_measured_and_the_others_stay(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forms = [benchmark.Form.choose("fp16"), benchmark.Form.choose("int8-weights", target="openvino")]
    monkeypatch.setattr(benchmark, "FORMS", forms)
    results = tmp_path / "results.json"
    before = benchmark.Row(precision="fp32", backend="openvino", megabytes=90.0)
    results.write_text(json.dumps({"models": {"mfe": {"rows": [vars(before)]}}}))
    arguments = ["--models", "edge-fr", "--images", "1", "--rounds", "1", "--threads", "2", "--json", str(results)]
    result = invoke(benchmark.main, *arguments)
    assert result.exit_code == 0
    models = json.loads(results.read_text())["models"]
    assert list(models) == ["edge-fr", "mfe"]
    assert models["mfe"]["rows"] == [vars(before)]
    rows = {(row["precision"], row["backend"]): row for row in models["edge-fr"]["rows"]}
    assert list(rows) == [
        ("fp32", "onnxruntime"),
        ("fp32", "openvino"),
        ("fp16", ""),
        ("int8-weights", "openvino"),
        (benchmark.EAGER, ""),
    ]
    whole, small = rows["fp32", "openvino"], rows["int8-weights", "openvino"]
    assert small["megabytes"] < whole["megabytes"] / 3
    assert 0 < whole["largest"] < small["largest"] < 0.04
    assert all(row["one_core_ms"] > 0 for key, row in rows.items() if key != ("fp16", ""))
    assert rows["fp16", ""]["one_core_ms"] is None
    assert len(result.stdout.splitlines()) == 2 + 5 + 1
