"""Verdicts: thresholds of the command line and of a file, exit codes, resumed runs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import invoke
from iqa_runtime.commands.run import main
from iqa_runtime.commands.thresholds import Threshold, ThresholdOptions
from iqa_runtime.contract import Quantiles, ScoreOutput
from iqa_runtime.errors import FileError, UsageError
from video_files import gray_planes, write_video

UNIT = ScoreOutput(low=0.0, high=1.0, higher_is_better=True, bounded=True, scale="brightness")
PLACED = replace(UNIT, quantiles=Quantiles(population="squares", images=9, scores=(0.0, 0.25, 1.0)))
"""The brightness 0.2 is better than 40 percent, 0.4 than 60, 0.8 than 87."""


@pytest.fixture(autouse=True)
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plain images of brightness 0.2, 0.4 and 0.8 in the working folder."""
    for name, value in {"dark.png": 51, "in/mid.png": 102, "in/deep/bright.png": 204}.items():
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shots"


def run(*arguments: Any) -> Any:
    return invoke(main, *arguments)


def verdicts(text: str) -> dict[str, str | None]:
    return {Path(row["path"]).name: row["verdict"] for row in map(json.loads, text.splitlines())}


def test_what_scores_less_fails_and_the_exit_code_is_3(artefacts: Any) -> None:
    result = run(artefacts.mean(), "shots", "--fail-under", "0.3")
    assert result.exit_code == 3
    assert verdicts(result.stdout) == {"dark.png": "fail", "mid.png": "pass", "bright.png": "pass"}
    assert "1 of 3 worse than the threshold" in result.stderr
    assert run(artefacts.mean(), "shots", "--fail-under", "-1").exit_code == 0
    without = run(artefacts.mean(), "shots")
    assert (without.exit_code, {*verdicts(without.stdout).values()}) == (0, {None})
    assert "threshold" not in without.stderr


def test_a_score_at_the_threshold_passes(artefacts: Any) -> None:
    row = json.loads(run(artefacts.mean(), "shots/dark.png").stdout)
    assert run(artefacts.mean(), "shots/dark.png", "--fail-under", repr(row["score"])).exit_code == 0
    above = repr(float(np.nextafter(row["score"], 1)))
    assert run(artefacts.mean(), "shots/dark.png", "--fail-under", above).exit_code == 3


def test_where_lower_is_better_what_scores_more_fails(artefacts: Any) -> None:
    arguments = (artefacts.difference(), "shots", "--reference", "shots/dark.png", "--fail-under", "0.3")
    result = run(*arguments)
    assert result.exit_code == 3
    assert verdicts(result.stdout) == {"dark.png": "pass", "mid.png": "pass", "bright.png": "fail"}


def test_an_error_has_no_verdict_and_comes_before_a_threshold(artefacts: Any, shots: Path) -> None:
    (shots / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run(artefacts.mean(), "shots", "--fail-under", "0.3")
    assert result.exit_code == 1
    assert verdicts(result.stdout) == {"dark.png": "fail", "broken.png": None, "mid.png": "pass", "bright.png": "pass"}


def test_percentiles_are_judged_and_shown(artefacts: Any) -> None:
    artefact = artefacts.mean("placed", score=PLACED)
    result = run(artefact, "shots", "--fail-under-percentile", "50")
    assert result.exit_code == 3
    assert verdicts(result.stdout) == {"dark.png": "fail", "mid.png": "pass", "bright.png": "pass"}
    table = run(artefact, "shots", "--fail-under-percentile", "50", "--format", "table").stdout
    assert "percentile among 9 images (squares)" in table
    assert re.search(r"dark\.png +0\.2000 +40\.0 +fail", table)
    both = run(artefact, "shots", "--fail-under-percentile", "50", "--fail-under", "0.5")
    assert verdicts(both.stdout) == {"dark.png": "fail", "mid.png": "fail", "bright.png": "pass"}


def test_the_summary_counts_the_worst_tenth_of_the_population(artefacts: Any, shots: Path) -> None:
    Image.new("RGB", (40, 40), (5, 5, 5)).save(shots / "night.png")
    err = run(artefacts.mean("placed", score=PLACED), "shots").stderr
    assert "1 of 4 worse than 9 of 10 of the reference population of 9 images" in err
    assert "population" not in run(artefacts.mean(), "shots").stderr


def test_percentile_of_an_artefact_without_quantiles_is_a_usage_error(artefacts: Any) -> None:
    Path("rows.csv").write_text("earlier")
    Path("t.toml").write_text('[[threshold]]\npattern = "shots/**"\nfail_under_percentile = 5\n')
    for options in (("--fail-under-percentile", "5"), ("--thresholds", "t.toml")):
        result = run(artefacts.mean(), "shots", "--output", "rows.csv", *options)
        assert result.exit_code == 2
        assert "--fail-under with a score" in result.stderr
        assert Path("rows.csv").read_text() == "earlier"


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_every_format_has_the_verdict(artefacts: Any, form: str) -> None:
    result = run(artefacts.mean(), "shots", "--fail-under", "0.3", "--format", form)
    assert result.exit_code == 3
    if form == "csv":
        found = [row["verdict"] for row in csv.DictReader(io.StringIO(result.stdout))]
    elif form == "table":
        found = re.findall(r"\b(?:pass|fail)\b", result.stdout)
    else:
        text = result.stdout
        rows = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
        found = [row["verdict"] for row in rows]
    assert sorted(found) == ["fail", "pass", "pass"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_resumed_run_judges_earlier_rows_by_its_own_thresholds(artefacts: Any, form: str) -> None:
    output, whole = Path(f"rows.{form}"), Path(f"whole.{form}")
    assert run(artefacts.mean(), "shots/dark.png", "--output", output, "--fail-under", "0.1").exit_code == 0
    result = run(artefacts.mean(), "shots", "--output", output, "--resume", "--fail-under", "0.3")
    assert result.exit_code == 3
    assert "1 of 3 worse than the threshold" in result.stderr
    run(artefacts.mean(), "shots", "--output", whole, "--fail-under", "0.3")
    without_times = re.compile(r'"milliseconds": [0-9.]+|,[0-9.]+(?=,[0-9a-f]{12}:)')
    assert without_times.sub("", output.read_text()) == without_times.sub("", whole.read_text())
    # What is in the file but not among the inputs does not decide how this run ends.
    assert run(artefacts.mean(), "shots/in", "--output", output, "--resume", "--fail-under", "0.3").exit_code == 0
    assert run(artefacts.mean(), "shots", "--output", output, "--resume").exit_code == 0
    assert "fail" not in output.read_text()


def test_earlier_rows_are_judged_once_it_is_sure_that_they_can_be(artefacts: Any) -> None:
    placed, without = artefacts.mean("placed", score=PLACED), artefacts.mean()
    arguments = ("shots", "--output", "rows.csv", "--resume", "--fail-under-percentile", "5")
    run(without, "shots", "--output", "rows.csv")
    before = Path("rows.csv").read_text()
    for artefact, says in ((without, "--write-quantiles"), (placed, "another artefact")):
        result = run(artefact, *arguments)
        assert (result.exit_code, result.stdout, says in result.stderr) == (2, "", True)
        assert Path("rows.csv").read_text() == before


def test_frames_and_videos_are_judged_and_resumed(artefacts: Any, shots: Path) -> None:
    pytest.importorskip("av")
    # Ten frames at 25 a second of brightness (luma - 16) / 219 = 0.2, ten of 0.8.
    write_video(shots / "clip.mkv", [gray_planes(luma) for luma in [60] * 10 + [191] * 10], codec="ffv1")
    arguments = (artefacts.mean("placed", score=PLACED), "shots/clip.mkv", "--every", "0.4", "--output", "rows.jsonl")
    expected = {"clip.mkv#t=0.000": "fail", "clip.mkv#t=0.400": "pass", "clip.mkv": "pass"}
    Path("t.toml").write_text('[[threshold]]\npattern = "shots/*.mkv"\nfail_under = 0.3\n')
    for options in ((), ("--fail-under-percentile", "45"), ("--resume", "--thresholds", "t.toml")):
        result = run(*arguments, *options)
        rows = Path("rows.jsonl").read_text()
        assert result.exit_code == (3 if options else 0)
        assert verdicts(rows) == (expected if options else dict.fromkeys(expected))
    clip = json.loads(rows.splitlines()[-1])
    assert clip["percentile"] == pytest.approx(50 + 50 * (0.5 - 0.25) / 0.75, abs=0.5)  # pixels of 8 bits


RULES = """
[[threshold]]
pattern = "shots/**"
fail_under = 0.9

[[threshold]]
pattern = "shots/in/*"
fail_under = 0.3
"""


def test_the_last_pattern_that_matches_counts_and_the_rest_has_the_options(artefacts: Any, tmp_path: Path) -> None:
    Path(".iqa.toml").write_text(RULES)
    Image.new("RGB", (40, 40), (51, 51, 51)).save("other.png")
    arguments = ("shots", "other.png", "--thresholds", ".iqa.toml")
    result = run(artefacts.mean(), *arguments)
    assert result.exit_code == 3
    expected = {"dark.png": "fail", "mid.png": "pass", "bright.png": "fail", "other.png": None}
    assert verdicts(result.stdout) == expected
    result = run(artefacts.mean(), *arguments, "--fail-under", "0.1")
    assert verdicts(result.stdout) == expected | {"other.png": "pass"}
    # Wherever the command runs and however the images are named.
    os.chdir("shots/in")
    for names in ((tmp_path / "shots",), ("../../shots",), (".", "../dark.png")):
        found = run(artefacts.mean(), *names, "--thresholds", "../../.iqa.toml")
        assert verdicts(found.stdout) == {name: expected[name] for name in ("dark.png", "mid.png", "bright.png")}


@pytest.mark.parametrize(
    ("pattern", "image", "matches"),
    [
        ("*.png", "a.png", True),
        ("*.png", "b/a.png", False),
        ("**/*.png", "a.png", True),
        ("**/*.png", "b/c/a.png", True),
        ("b/**", "b/c/a.png", True),
        ("b/**", "bc/a.png", False),
        ("b/**/c/*", "b/c/a.png", True),
        ("b/**/c/*", "b/x/y/c/a.png", True),
        ("b/**/c/*", "b/x/c/y/a.png", False),
        ("b/[ac]?.png", "b/c1.png", True),
        ("b", "b/a.png", False),
        ("*", "../a.png", False),
        (".github/*", ".github/a.png", True),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, image: str, matches: bool) -> None:
    # A folder whose own name reads as a pattern.
    folder = tmp_path / "[x]*"
    folder.mkdir()
    file = folder / "t.toml"
    file.write_text(f'[[threshold]]\npattern = "{pattern}"\nfail_under = 0.5\n')
    thresholds = ThresholdOptions(thresholds=file).read()
    row = {"score": 0.6, "direction": "higher", "percentile": None}
    found = thresholds.judged(row, str(folder / image))["verdict"]
    assert found == ("pass" if matches else None)


@pytest.mark.parametrize("image", ["https://host/a.png", "s3://bucket/a.png"])
def test_addresses_lie_in_no_folder(tmp_path: Path, image: str) -> None:
    (tmp_path / "t.toml").write_text('[[threshold]]\npattern = "**"\nfail_under = 0.5\n')
    thresholds = ThresholdOptions(thresholds=tmp_path / "t.toml").read()
    assert thresholds.judged({"score": 0.1, "direction": "higher", "percentile": None}, image)["verdict"] is None


@pytest.mark.parametrize(("score", "verdict"), [(0.6, None), (0.4, "fail")])
def test_a_row_without_a_percentile_does_not_pass(score: float, verdict: str | None) -> None:
    thresholds = ThresholdOptions(fail_under=0.5, fail_under_percentile=20).read()
    row = {"score": score, "direction": "higher", "percentile": None}
    assert thresholds.judged(row, "a.png")["verdict"] == verdict


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "threshold"),
        ("[[threshold]]\nfail_under = 1\n", "$.threshold[0]"),
        ('[[threshold]]\npattern = "a"\nfail_over = 1\n', "fail_over"),
        ('[[threshold]]\npattern = "a"\nfail_under = "1"\n', "$.threshold[0].fail_under"),
        ('[[threshold]]\npattern = "a"\nfail_under = true\n', "$.threshold[0].fail_under"),
        ('[[threshold]]\npattern = "a"\nfail_under = nan\n', "$.threshold[0].fail_under"),
        ('[[threshold]]\npattern = "a"\nfail_under = 1\n[[threshold]]\npattern = "b"\n', "$.threshold[1]"),
        ('[[threshold]]\npattern = "a"\nfail_under_percentile = 101\n', "$.threshold[0].fail_under_percentile"),
        ('[[threshold]]\npattern = "/a"\nfail_under = 1\n', "$.threshold[0].pattern"),
        ('[[threshold]]\npattern = "../a"\nfail_under = 1\n', "$.threshold[0].pattern"),
        ('[[threshold]]\npattern = ""\nfail_under = 1\n', "$.threshold[0].pattern"),
        ('[thresholds]\n"a" = 1\n', "thresholds"),
        ("[[threshold\n", "no TOML"),
        ("a = " + "[" * 100_000, "no TOML"),
        ("a = 1" + "0" * 5000, "no TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_path(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=rf"(?s)^{re.escape(str(file))}: .*{re.escape(says)}"):
        ThresholdOptions(thresholds=file).read()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.toml"):
        ThresholdOptions(thresholds=tmp_path / "gone.toml").read()
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(UsageError, match=r"latin\.toml"):
        ThresholdOptions(thresholds=tmp_path / "latin.toml").read()


@pytest.mark.parametrize(
    "options",
    [
        ("--fail-under", "nan"),
        ("--fail-under", "inf"),
        ("--fail-under", "good"),
        ("--fail-under-percentile", "-1"),
        ("--fail-under-percentile", "100.5"),
        ("--fail-under-percentile", "nan"),
        ("--thresholds", "gone.toml"),
    ],
)
def test_a_threshold_out_of_range_is_a_usage_error(artefacts: Any, options: tuple[str, str]) -> None:
    result = run(artefacts.mean("placed", score=PLACED), "shots", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert options[0] in result.stderr or options[1] in result.stderr


def test_check_and_info_take_no_threshold(artefacts: Any) -> None:
    for instead in ("--check", "--info"):
        assert run(artefacts.mean(), instead, "--fail-under", "0").exit_code == 2


def test_a_threshold_of_nothing_gives_no_verdict() -> None:
    assert Threshold().verdict({"score": 1.0, "direction": "higher", "percentile": None}) is None
