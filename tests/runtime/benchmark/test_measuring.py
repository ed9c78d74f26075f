"""iqa-bench: what it measures adds up, and its command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import iqa_runtime.benchmark.measuring as bench_module
from command_line import invoke
from iqa_runtime.benchmark.host import Machine, describe_host, measure_machine
from iqa_runtime.benchmark.measuring import measure_artefact
from iqa_runtime.benchmark.report import BenchReport
from iqa_runtime.benchmark.timing import Spread
from iqa_runtime.commands.bench import main
from iqa_runtime.contract import Resize
from iqa_runtime.errors import FileError, UsageError

pytest.importorskip("onnxruntime")

QUICK = 0.01
"""Seconds a row: the least number of rounds is then what counts."""

PIXELS = 3 * 32 * 32
"""Values of one crop of the tiny artefacts."""


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine be known beforehand: probing it takes a second."""
    machine = Machine(
        bandwidth=10.0, bandwidth_source="measured", peak=100.0, peak_source="measured", peak_precision="float32"
    )
    monkeypatch.setattr(bench_module, "measure_machine", lambda _: machine)


@pytest.fixture
def picture(
    tmp_path: Path, noise: Callable[..., NDArray[np.uint8]], save_png: Callable[[Path, NDArray[np.uint8]], Path]
) -> Path:
    return save_png(tmp_path / "picture.png", noise(64, 80))


def measure(artefact: Path, **options: Any) -> BenchReport:
    return measure_artefact(artefact, **{"seconds": QUICK, "threads": 1, "batch_sizes": (1, 3), **options})


def test_the_report_says_what_was_measured(artefacts: Any, picture: Path) -> None:
    report = measure(artefacts.mean(), image=picture)
    assert report.artefact.file == "mean.onnx"
    assert (report.backend, report.provider, report.threads) == ("onnxruntime", "CPUExecutionProvider", 1)
    assert report.image == f"80 x 64, {picture}"
    assert [stage.name for stage in report.stages] == ["image", "decode", "patches", "model"]
    assert [row.items for row in report.batches] == [1, 3]
    assert report.crops_per_image == 5


def test_resizing_is_a_stage_where_the_artefact_resizes(artefacts: Any, picture: Path) -> None:
    shrunk = artefacts.mean(resize=Resize(to="shorter", size=40, filter="box", when="shrink"))
    report = measure(shrunk, image=picture)
    assert [stage.name for stage in report.stages] == ["image", "decode", "resize", "patches", "model"]


def test_another_size_than_the_artefacts_can_be_asked_for(artefacts: Any, picture: Path) -> None:
    assert measure(artefacts.mean(), image=picture).resize == "none"
    report = measure(artefacts.mean(), image=picture, resize="shorter:40:box")
    assert report.resize == "shorter:40:box"
    assert "resize" in [stage.name for stage in report.stages]


def test_of_an_animation_the_first_frame_is_measured_where_that_is_asked_for(artefacts: Any, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (80, 64), color) for color in ("red", "blue")]
    animation = tmp_path / "moving.gif"
    frames[0].save(animation, save_all=True, append_images=frames[1:])
    arguments = [str(artefacts.mean()), str(animation), f"--seconds={QUICK}", "--batch-sizes=1", "--threads=1"]
    result = invoke(main, *arguments)
    assert result.exit_code == 1
    assert "an animated GIF" in result.stderr
    assert "(--frame first)" in result.stderr
    result = invoke(main, *arguments, "--frame", "first")
    assert result.exit_code == 0, result.output
    assert "80 x 64" in result.stdout
    result = invoke(main, *arguments, "--frame", "last")
    assert "--frame last: give first, or leave it out" in result.stderr


def test_without_a_gpu_the_default_is_small_batches_and_no_peak_of_stages(artefacts: Any, picture: Path) -> None:
    report = measure(artefacts.mean(gmac=0.5), image=picture, batch_sizes=None)
    assert [row.items for row in report.batches] == [1, 2, 4, 8, 16]
    assert {stage.peak_share for stage in report.stages} == {None}


def test_percentiles_rise(artefacts: Any) -> None:
    report = measure(artefacts.mean())
    for times in (*(stage.times for stage in report.stages), *(row.times for row in report.batches)):
        assert 0 < times.p50 <= times.p90 <= times.p99
        assert times.rounds >= 5


def test_shares_follow_from_times_traffic_and_machine(artefacts: Any, picture: Path) -> None:
    artefact = artefacts.mean()
    report = measure(artefact, image=picture, gmac=0.5)
    patches = next(stage for stage in report.stages if stage.name == "patches")
    assert patches.traffic == 5 * PIXELS * (1 + 4), "a byte read and a float32 written for each value"
    seconds = patches.times.p50 / 1000
    assert patches.bandwidth_share == pytest.approx(patches.traffic / seconds / 10e9)
    for row in report.batches:
        rate = row.items / (row.times.p50 / 1000)
        assert row.crops_per_second == pytest.approx(rate)
        assert row.gflops == pytest.approx(rate * 2 * 0.5)
        assert row.peak_share == pytest.approx(rate / 100)
        moved = row.items * (artefact.stat().st_size + 4 * PIXELS)
        assert row.bandwidth_share == pytest.approx(moved / (row.times.p50 / 1000) / 10e9)


def test_what_is_given_replaces_what_is_measured(artefacts: Any, picture: Path) -> None:
    artefact = artefacts.mean(gmac=0.5)
    report = measure(artefact, image=picture, peak=50.0)
    assert report.machine == Machine(
        bandwidth=10.0, bandwidth_source="measured", peak=50.0, peak_source="given", peak_precision=None
    )
    row = report.batches[0]
    assert row.gflops is not None
    assert row.peak_share == pytest.approx(row.gflops / 50)
    report = measure(artefact, image=picture, bandwidth=20.0)
    assert (report.machine.bandwidth, report.machine.bandwidth_source) == (20.0, "given")
    assert (report.machine.peak, report.machine.peak_precision) == (100.0, "float32")


def test_with_both_given_nothing_is_measured(artefacts: Any, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(bench_module, "measure_machine")
    machine = measure(artefacts.mean(), image=picture, bandwidth=20.0, peak=50.0).machine
    assert machine == Machine(bandwidth=20.0, bandwidth_source="given", peak=50.0, peak_source="given")


def test_without_multiply_accumulates_there_is_no_share_of_the_peak(artefacts: Any, picture: Path) -> None:
    row = measure(artefacts.mean(), image=picture).batches[0]
    assert row.gflops is None
    assert row.peak_share is None


def test_the_contract_knows_the_multiply_accumulates_unless_they_are_given(artefacts: Any, picture: Path) -> None:
    artefact = artefacts.mean(gmac=0.25)
    for given, expected in ((None, 0.25), (0.5, 0.5)):
        report = measure(artefact, image=picture, gmac=given)
        assert report.gmac == expected
        row = report.batches[0]
        assert row.gflops == pytest.approx(2 * expected * row.crops_per_second)


@pytest.mark.parametrize("task", ["fr", "nar"])
def test_artefacts_with_a_reference(artefacts: Any, task: str, picture: Path) -> None:
    artefact = artefacts.difference(task=task)
    assert measure(artefact).crops_per_image == 5
    report = measure(artefact, image=picture, reference=picture)
    patches = next(stage for stage in report.stages if stage.name == "patches")
    assert patches.traffic == 2 * 5 * PIXELS * (1 + 4)


def test_artefacts_with_cached_features_and_with_several_crops_an_item(artefacts: Any) -> None:
    assert measure(artefacts.cached()).crops_per_image == 5
    report = measure(artefacts.packed())
    assert report.crops_per_image == 4
    assert report.batches[0].crops_per_second == pytest.approx(4000 / report.batches[0].times.p50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": ()}, "``batch_sizes=``"),
        ({"batch_sizes": (1, 0)}, "1 to 1024"),
        ({"seconds": 0}, "above 0"),
        ({"gmac": -1.0}, "``gmac=-1.0``"),
        ({"peak": float("nan")}, "``peak=nan``"),
        ({"reference": Path("r.png")}, "a reference without an image"),
        ({"device": "tpu"}, "``device=tpu``"),
        ({"trust": Path("key.pem")}, "only engines .* are signed"),
    ],
)
def test_bad_arguments_are_one_clear_error(artefacts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure(artefacts.mean(), **options)


def test_a_missing_image_is_a_file_error(artefacts: Any, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read the image"):
        measure(artefacts.mean(), image=tmp_path / "none.png")


@pytest.mark.slow
def test_the_machine_is_measured() -> None:
    machine = measure_machine(threads=1)
    # From the slowest board to the largest server; a wrong unit would miss both by far.
    assert machine.bandwidth is not None
    assert 0.5 < machine.bandwidth < 5_000
    assert machine.peak is not None
    assert 1 < machine.peak < 100_000
    assert (machine.bandwidth_source, machine.peak_source) == ("measured", "measured")
    assert machine.peak_precision == "float32"


def test_the_host_names_versions_and_the_commit_only_of_its_own_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import iqa_runtime.benchmark.host as host_module

    host = describe_host()
    assert {"iqa-deploy", "python", "numpy"} <= set(host.versions)
    assert host.cpus >= 1
    if host.machine == "x86_64" and host.system == "Linux":
        assert re.fullmatch(r"family \d+, model \d+", host.processor_model)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    inside = tmp_path / "module.py"
    inside.touch()
    monkeypatch.setattr(host_module, "__file__", str(inside))
    assert describe_host().commit is None, "a file nobody tracks, in somebody's checkout"
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "-C", str(tmp_path), "add", "module.py"], check=True)
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "-qm", "one"], check=True)
    commit = describe_host().commit
    assert commit is not None
    assert len(commit) == 12


def test_the_command_prints_tables_and_writes_json(artefacts: Any, picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = [str(artefacts.mean()), str(picture), "--seconds", str(QUICK), "--batch-sizes", "1,2", "--threads", "1"]
    result = invoke(main, *arguments, "--output", str(output), "--gmac", "0.1")
    assert result.exit_code == 0, result.output
    for text in ("decode", "patches", "crops/s", "of peak", "GFLOP/s"):
        assert text in result.output
    last = result.output.splitlines()[-1]
    assert last == ("the machine: memory 10.0 GB/s (measured), float32 peak 100.0 GFLOP/s (measured); -: not known")
    content = json.loads(output.read_text(encoding="utf-8"))
    assert content["artefact"]["file"] == "mean.onnx"
    assert {"versions", "commit", "processor"} <= set(content["host"])
    assert [row["items"] for row in content["batches"]] == [1, 2]
    assert (content["machine"]["bandwidth_source"], content["machine"]["peak_precision"]) == ("measured", "float32")
    assert set(content["stages"][0]["times"]) == {"p50", "p90", "p99", "rounds"}


@pytest.mark.parametrize("text", ["", "1,", "a", "1;2", "-1"])
def test_bad_batch_sizes_on_the_command_line(artefacts: Any, text: str) -> None:
    result = invoke(main, str(artefacts.mean()), f"--batch-sizes={text}")
    assert result.exit_code == 2


def test_the_command_refuses_to_overwrite_what_it_reads(artefacts: Any, picture: Path) -> None:
    result = invoke(main, str(artefacts.mean()), str(picture), "--output", str(picture))
    assert "would overwrite the image" in result.stderr


def test_the_command_refuses_to_overwrite_the_reference_encoder(artefacts: Any, picture: Path) -> None:
    artefact = artefacts.cached()
    encoder = artefact.with_name("cached.reference.onnx")
    before = encoder.read_bytes()
    result = invoke(main, str(artefact), str(picture), "--reference", str(picture), "--output", str(encoder))
    assert result.exit_code == 2
    assert f"--output: {encoder} would overwrite the reference encoder of the artefact" in result.stderr
    assert encoder.read_bytes() == before


def test_a_missing_output_folder_is_found_before_the_work(artefacts: Any, tmp_path: Path) -> None:
    result = invoke(main, str(artefacts.mean()), "--output", str(tmp_path / "no" / "b.json"))
    assert "no such folder" in result.stderr


def test_errors_of_the_command_are_one_line_and_an_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iqa_runtime.commands.bench", str(tmp_path / "none.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("iqa-bench: ")
    assert done.stderr.count("\n") == 1


def test_a_spread_is_in_milliseconds() -> None:
    spread = Spread.of_seconds([0.001] * 9 + [0.002])
    assert spread == Spread(p50=1.0, p90=pytest.approx(1.1), p99=pytest.approx(1.91), rounds=10)


@pytest.mark.slow
def test_the_bundled_artefact_verbatim() -> None:
    command = [sys.executable, "-m", "iqa_runtime.commands.bench", "edge", "--seconds", "0.1", "--batch-sizes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model alone" in done.stdout
