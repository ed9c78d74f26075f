"""iqa-export with a module and a contract file, as a user types it."""

import json
import sys
from pathlib import Path

import pytest
import torch

from iqa_runtime import read_contract

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Conv2d(3, width, 3, stride=2)

    def forward(self, image):
        return torch.tanh(self.layer(image)).mean((1, 2, 3))
"""
CONTRACT = """
name = "typed"
licence = "CC0-1.0"
task = "nr"
[input]
crop = 32
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[patch_plan]
kind = "five"
[score]
direction = "higher"
scale = "MOS"
"""


@pytest.fixture
def network(tmp_path):
    """Module and contract file in the current folder of `run`."""
    (tmp_path / "typed_net.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "c.toml").write_text(CONTRACT, encoding="utf-8")
    yield ["--module", "typed_net:Net", "--contract", "c.toml"]
    sys.modules.pop("typed_net", None)


def test_a_module_of_the_current_folder_becomes_an_artefact(run, network):
    torch.save({"net": {"layer.weight": torch.randn(4, 3, 3, 3), "layer.bias": torch.zeros(4)}}, "net.pth")
    code, out, err = run(*network, "--weights", "net.pth", "--crops", "uniform:9")
    assert code == 0, err
    assert "weights: net.pth, entry net" in out
    assert "any number" not in err
    contract = read_contract("typed-default-nr.onnx")
    assert (contract.patch_plan.kind, contract.patch_plan.count) == ("uniform", 9)
    report = json.loads(Path("typed-default-nr.report.json").read_text(encoding="utf-8"))
    assert (report["passed"], report["oracle"]) == (True, "PyTorch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--module", "typed_net:Net"], "--module alone: give --model, the name of a system; or --contract"),
        (["--contract", "c.toml"], "--contract alone"),
        (["--adopt", "x.onnx"], "--adopt alone"),
        (["--model", "yoto", "--contract", "c.toml"], "--model yoto: a system says itself what --contract would"),
        (
            ["--module", "typed_net:Nett", "--contract", "c.toml", "--weights", "random:0"],
            "has no 'Nett'; there is Net",
        ),
        (["--module", "absent:Net", "--contract", "c.toml", "--weights", "random:0"], "no module 'absent'"),
        (["--module", "typed_net:Net", "--contract", "c.toml"], "--weights is missing: typed wants the checkpoint of"),
    ],
)
@pytest.mark.usefixtures("network")
def test_usage_errors_are_one_line_and_exit_code_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path().glob("*.onnx"))


def test_weights_of_another_network_are_listed(run, network):
    torch.save({"layer.weight": torch.zeros(4, 3, 3, 3)}, "net.pth")
    code, _, err = run(*network, "--weights", "net.pth")
    assert code == 1
    assert "1 missing (layer.bias)" in err


def test_a_new_contract_is_sound_and_replaces_no_file(run):
    code, out, err = run("--new-contract", "new.toml")
    assert (code, out) == (0, "")
    assert "iqa-export --check-contract new.toml" in err
    written = Path("new.toml").read_bytes()
    code, out, _ = run("--check-contract", "new.toml")
    assert code == 0
    assert "new.toml: sound" in out
    assert "score: the network's value 0; 0 to 1, higher is better; mean opinion score" in out
    code, _, err = run("--new-contract", "new.toml")
    assert code == 2
    assert "--new-contract new.toml: is there already" in err
    assert Path("new.toml").read_bytes() == written
    code, _, err = run("--new-contract", "absent/new.toml")
    assert code == 1
    assert "cannot write it" in err


def test_a_wrong_contract_is_told_with_its_path(run):
    Path("c.toml").write_text(CONTRACT.replace('"MOS"', "5").replace("crop =", "corp ="), encoding="utf-8")
    code, out, err = run("--check-contract", "c.toml")
    assert (code, out) == (2, "")
    assert "iqa-export: c.toml: input.corp: no such key; the nearest is crop" in err
    Path("c.toml").write_text(CONTRACT.replace('"MOS"', "5"), encoding="utf-8")
    assert "c.toml: score.scale: expected a text in quotes, got a whole number" in run("--check-contract", "c.toml")[2]
    code, _, err = run("--check-contract", "absent.toml")
    assert code == 1
    assert "absent.toml: cannot read the contract" in err
