"""The page on networks of one's own: its commands, as they stand there, take a checkpoint to INT8."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from command_line import invoke
from iqa_calibration.commands import calibrate
from iqa_export.commands import export
from iqa_runtime import read_contract
from iqa_runtime.commands import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bring-your-network.md").read_text(encoding="utf-8")
MAINS = {"iqa-export": export.main, "iqa-calibrate": calibrate.main, "iqa-run": run.main}


def commands(section: str) -> list[list[str]]:
    body = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^    (iqa-.*)$", body, re.MULTILINE)]


def contract() -> str:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the network, with photographs and a checkpoint as BasicSR writes it: float, raw and averaged."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "own_network" / "networks.py", tmp_path)
    (tmp_path / "photographs").mkdir()
    for name in ("brushes", "dandelion", "drum", "mountains", "stream"):
        shutil.copy(ROOT / "examples" / "photographs" / f"{name}.jpg", tmp_path / "photographs")
    monkeypatch.syspath_prepend(tmp_path)
    networks = __import__("networks")
    torch.manual_seed(0)
    state = networks.WeightedPatches().state_dict()
    averaged = {key: value * 0.99 if value.is_floating_point() else value for key, value in state.items()}
    torch.save({"params": state, "params_ema": averaged}, "net_g_latest.pth")
    yield tmp_path
    sys.modules.pop("networks", None)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_checkpoint_of_basicsr_becomes_int8_by_the_commands_of_the_page():
    typed = commands("From checkpoint to INT8")
    assert [command[0] for command in typed] == ["iqa-export"] * 3 + ["iqa-calibrate", "iqa-run"]
    for command in typed:
        result = invoke(MAINS[command[0]], *command[1:])
        assert result.exit_code == 0, (command, result.stderr)
        if "--new-contract" in command:
            Path("patches.toml").write_text(contract(), encoding="utf-8")
    exported, reduced = read_contract("patches.onnx"), read_contract("patches.int8.onnx")
    assert exported.weights.entry == reduced.weights.entry == "params_ema"
    assert reduced.precision == "int8"
    assert reduced.gate is not None
    assert reduced.gate["passed"]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_export_from_python_makes_the_artefact_of_the_page():
    Path("patches.toml").write_text(contract(), encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})
    assert read_contract("patches.onnx").weights.entry == "params_ema"


@pytest.mark.usefixtures("folder")
def test_without_a_key_raw_and_averaged_weights_are_asked_about():
    Path("patches.toml").write_text(contract(), encoding="utf-8")
    command = next(command for command in commands("From checkpoint to INT8") if "--weights" in command)
    place = command.index("--weights-key")
    result = invoke(export.main, *command[1:place], *command[place + 2 :])
    assert result.exit_code == 1
    assert "choose one of them with --weights-key: params, params_ema" in result.stderr
