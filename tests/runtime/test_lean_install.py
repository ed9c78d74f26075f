"""The runtime installed alone, from the source tree into an empty environment, scores images."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
PACKAGES = ("csrc", "runtime", "calibration", "export", "training", "serving")
FORBIDDEN = {"torch", "onnx", "scipy", "onnxscript", "matplotlib"}

ROUNDING = 1e-6
"""Means of thousands of float32 values, summed in another order."""

pytestmark = pytest.mark.slow


def run(*command, cwd):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """The folder of programs of an environment with ``.[cpu]`` and nothing else."""
    folder = tmp_path_factory.mktemp("lean")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        if (ROOT / name).exists():
            # Without what was built in place: the wheel has to build its own kernels.
            leave = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__", "_kernels.c", "_jpeg_bands.c")
            shutil.copytree(ROOT / name, source / name, ignore=leave)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    (wheel,) = folder.glob("iqa_deploy-*.whl")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    run(programs / "pip", "install", "--quiet", f"{wheel}[cpu]", cwd=folder)
    return programs


def test_nothing_heavy_comes_in(lean, tmp_path):
    installed = {
        package["name"].lower() for package in json.loads(run(lean / "pip", "list", "--format", "json", cwd=tmp_path))
    }
    assert {"iqa-deploy", "onnxruntime", "numpy"} <= installed
    assert not installed & FORBIDDEN
    assert "No broken requirements" in run(lean / "pip", "check", cwd=tmp_path)


def test_package_lies_in_the_environment_with_compiled_kernels(lean, tmp_path):
    probe = "import iqa_runtime, iqa_runtime.kernels as k; print(iqa_runtime.__file__, k.instruction_set())"
    place, instructions = run(lean / "python", "-c", probe, cwd=tmp_path).split()
    assert Path(place).is_relative_to(lean.parent)
    assert instructions != "numpy"


def test_iqa_run_scores(lean, tmp_path, artefacts, noise, save_png):
    image = noise(80, 100)
    save_png(tmp_path / "noise.png", image)
    # The mean of the corners and of the middle, 32 pixels each.
    corners = [(0, 0), (0, 68), (48, 0), (48, 68), (24, 34)]
    expected = np.mean([image[top : top + 32, left : left + 32] / 255 for top, left in corners])
    model = artefacts.mapped()
    (row,) = json.loads(run(lean / "iqa-run", model, "noise.png", "--format", "json", "--maps", "maps", cwd=tmp_path))
    assert row["error"] is None
    assert row["score"] == pytest.approx(expected, rel=ROUNDING)
    assert (tmp_path / "maps/noise.png.png").exists()
    assert "noise.png" in run(lean / "iqa-run", model, "noise.png", "--format", "table", cwd=tmp_path)
    assert "FAIL" not in run(lean / "iqa-run", model, "--check", cwd=tmp_path)
    assert "quality_map" in run(lean / "iqa-run", model, "--info", cwd=tmp_path)


def test_every_command_is_listed_and_says_what_it_lacks(lean, tmp_path, artefacts):
    listed = run(lean / "iqa", cwd=tmp_path)
    assert all(f"│ {word} " in listed for word in ("run", "export", "train", "serve"))
    done = subprocess.run([lean / "iqa", "export", "--list"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith('pip install "iqa-deploy[cpu,export]"\n')
    assert "FAIL" not in run(lean / "iqa", "run", artefacts.mean(), "--check", cwd=tmp_path)


def test_the_example_runs(lean, tmp_path, artefacts, noise, save_png):
    image = save_png(tmp_path / "noise.png", noise(80, 100))
    shown = run(lean / "python", ROOT / "examples" / "embed.py", artefacts.mean(), image, cwd=tmp_path)
    assert "higher is better" in shown
