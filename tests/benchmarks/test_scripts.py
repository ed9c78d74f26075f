"""Every script of benchmarks/ runs to its end on its smallest case. No times are judged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import ideas
import numpy as np
import pytest
import soak
import speed.ideas

from iqa_runtime.artefacts.bundled import find_artefact

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / "examples" / "photographs"
CONFIG = "dataset: synthetic\nsynthetic: {tile: 64, tiles: 1, versions: 4, shortest: [64, 64], validation: 0.5}\n"
KODAK = (512, 768)

SCRIPTS = {
    "damage": ["--files", "1"],
    "deploy_form": ["--quick", "--rounds", "1", "--threads", "1", "--json", "out.json"],
    "distortion_names": ["mfe-edge", "--config", "config.yaml", "--photographs", "tiles", "--cache", "cache"],
    "human_scores": ["--photographs", "kodak", "--scores", "scores.csv", "--output", "out"],
    "ideas": [],
    "measures": [str(PHOTOGRAPHS), "--count", "2", "--degraded", "1", "--json", "out.json"],
    "other_references": ["cvrkd-edge-any", "--root", "out", "--output", "out.json"],
    "patches": ["--rounds", "1", "--height", "224", "--width", "224"],
    "population": ["--photographs", "tiles", "--config", "config.yaml", "--output", "out"],
    "precision": [],
    "ray_data": [],
    "restoration": ["dri-edge", "--config", "config.yaml", "--photographs", "tiles", "--cache", "cache"],
    "serving": [],
    "soak": [],
    "suite": ["--quick", "--only", "patches", "--threads", "1", "--work", "work", "--output", "."],
}
"""Each script, and what it is given."""

OTHERWISE = {"ideas", "other_references", "precision", "ray_data", "serving", "soak"}
"""Scripts that another test runs to the end: precision that of tests/export/test_precision_benchmark.py, serving and
ray_data those of test_serving.py and test_ray_data.py."""


def ran(script, folder):
    """Run a script in a folder; return what it wrote to standard output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", ROOT / "benchmarks" / f"{script}.py", *SCRIPTS[script]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_script_is_left_out():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == SCRIPTS.keys()


@pytest.fixture
def folder(tmp_path):
    """What the scripts are given."""
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    random = np.random.default_rng(0)
    for name, sides in [("kodak/kodim01.png", KODAK), *((f"tiles/{number}.png", (64, 64)) for number in range(4))]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        coarse = random.integers(0, 256, (sides[0] // 8, sides[1] // 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), cv2.resize(coarse, sides[::-1], interpolation=cv2.INTER_CUBIC))
    rows = [f"i01.bmp,{kind},{level},{9 - level}" for kind in (1, 8) for level in (1, 5)]
    (tmp_path / "scores.csv").write_text("\n".join(["reference,type,level,mos", *rows, ""]), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(SCRIPTS.keys() - OTHERWISE))
def test_a_script_runs_to_its_end(script, folder):
    assert ran(script, folder).strip()


@pytest.mark.slow
def test_what_one_script_makes_another_takes(folder):
    assert ran("human_scores", folder).startswith("4 distorted images of 1 references")
    assert re.search(r"^all +n +4 ", ran("other_references", folder), re.MULTILINE)


@pytest.mark.slow
def test_a_short_soak_counts_what_failed_and_what_changed(monkeypatch, capsys):
    monkeypatch.setattr(soak, "FILES", 20)
    monkeypatch.setattr(soak, "DAMAGED", 2)
    soak.main(20)  # too short to tell whether memory grows
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[1], row[2], row[-2]) for row in rows] == [("20", "2", "0")] * 4


@pytest.mark.slow
def test_ideas_are_tried_on_the_attention_of_a_smaller_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed.ideas, "LARGE_MAP", 2**18)
    options = [str(find_artefact("edge-nr")), "--output", str(tmp_path), "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["ideas.py", *options])
    monkeypatch.setattr(sys, "path", list(sys.path))
    ideas.main()
    assert "attention in 8 blocks" in capsys.readouterr().out
    (written,) = tmp_path.glob("ideas.*.json")
    cases = json.loads(written.read_text(encoding="utf-8"))["sections"]["ideas"]["cases"]
    assert all(row["error"] is None for row in cases[0]["outcomes"])
