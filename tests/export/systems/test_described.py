"""A module and a contract file: what becomes of them in the artefact, and what is refused."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import iqa_export
from iqa_export.checkpoint_files import CheckpointError
from iqa_export.checkpoints import load_into
from iqa_export.factories import Factory
from iqa_export.outputs import ExportError
from iqa_export.systems.contract_file import read_contract_file
from iqa_export.systems.described import described_system
from iqa_export.weights import load_checkpoint
from iqa_runtime import Scorer, read_contract
from iqa_runtime.errors import UsageError

EXAMPLES = Path(__file__).parents[3] / "examples" / "photographs"
ROUNDING = 1e-5
"""Of a score of a few units: some roundings of float32 in another order."""

CONTRACT = """
name = "described"
title = "A network of the test"
licence = "CC0-1.0"
trained_on = "nothing"
task = "nr"
[input]
crop = 32
color = "BGR"
values = "0..255"
mean = [104, 117, 124]
std = [1, 1, 1]
[patch_plan]
kind = "center"
[score]
direction = "lower"
scale = "DMOS"
"""


class Small(nn.Module):
    """A convolution, a mean, a linear layer; `returns` tells in which form."""

    def __init__(self, values: int = 1, returns: str = "tensor") -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, stride=2)
        self.last = nn.Linear(6, values)
        self.returns = returns

    def forward(self, image: Tensor, reference: Tensor | None = None) -> object:
        features = torch.tanh(self.layer(image) / 100)
        if reference is not None:
            features = (features - torch.tanh(self.layer(reference) / 100)).abs()
        pooled = features.mean((2, 3))
        score = self.last(pooled)
        if self.returns == "tuple":
            return pooled, score, features.mean(1)
        if self.returns == "dict":
            return {"features": pooled, "mos": score, "map": features.mean(1)}
        return score.softmax(1) if self.returns == "probabilities" else score


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Export a network of this module with a contract; return the artefact's path and the network."""
    monkeypatch.chdir(tmp_path)

    def run(contract: str, *, weights: object = None, file: str = "net.pth", **arguments):
        factory = arguments.pop("factory", "Small")
        (tmp_path / "c.toml").write_text(contract, encoding="utf-8")
        path = tmp_path / file
        torch.manual_seed(0)
        keywords = arguments.pop("keywords", {})
        network = Small(**keywords)
        if weights is None:
            torch.save(network.state_dict(), path)
        else:
            weights(network, path)
        report = iqa_export.export(
            module=f"{__name__}:{factory}", contract="c.toml", weights=path, output="x.onnx", **arguments
        )
        return report, network.eval()

    return run


def items(contract) -> np.ndarray:
    tensor = contract.input("image")
    return np.random.RandomState(0).uniform(-100, 100, (3, *tensor.shape[1:])).astype(np.float32)


def run(names: list[str], **inputs: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"]).run(names, inputs)


def test_the_artefact_says_what_the_file_says(export):
    report, network = export(CONTRACT)
    contract = read_contract("x.onnx")
    assert report.passed
    assert (contract.model, contract.variant, contract.task) == ("described", "default", "nr")
    assert (contract.weights.licence, contract.weights.trained_on) == ("CC0-1.0", "nothing")
    assert contract.weights.file == "net.pth"
    assert contract.score.range == (None, None)
    assert contract.score.direction == "lower"
    assert contract.input("image").color == "BGR"
    inputs = items(contract)
    expected = network(torch.from_numpy(inputs)).squeeze(1).detach().numpy()
    np.testing.assert_allclose(run(["score"], image=inputs)[0], expected, rtol=0, atol=ROUNDING)


def test_pixels_come_as_the_training_pipeline_gave_them(export):
    """Blue, green, red of 0 to 255, less the means: computed here from the picture itself."""
    _, network = export(CONTRACT)
    pixels = np.random.RandomState(1).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    values = pixels[..., ::-1].astype(np.float32) - np.float32([104, 117, 124])
    expected = float(network(torch.from_numpy(values.transpose(2, 0, 1)[None].copy())).detach())
    with Scorer("x.onnx") as scorer:
        assert scorer.score(pixels).value == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("values", ["logits", "probabilities"])
def test_a_distribution_becomes_its_mean(export, values):
    grades = [1.0, 2.0, 4.0, 8.0]
    keywords = {"values": 4, "returns": "tensor" if values == "logits" else "probabilities"}
    text = CONTRACT + f'[head]\ndistribution = {grades}\nvalues = "{values}"\n[network]\nvalues = 4\n'
    text += f'returns = "{keywords["returns"]}"\n'
    _, network = export(text, keywords=keywords)
    inputs = items(read_contract("x.onnx"))
    returned = network(torch.from_numpy(inputs)).double().detach().numpy()
    weights = np.exp(returned) if values == "logits" else returned
    expected = (weights * grades).sum(1) / weights.sum(1)
    np.testing.assert_allclose(run(["score"], image=inputs)[0], expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("told", "returns", "said"),
    [
        ("logits", "probabilities", 'returns values that sum to 1, .*write "probabilities"'),
        ("probabilities", "tensor", 'write "logits"'),
    ],
)
def test_logits_and_probabilities_are_told_apart(export, told, returns, said):
    text = (
        CONTRACT + f'[head]\ndistribution = [1, 2, 3]\nvalues = "{told}"\n[network]\nvalues = 3\nreturns = "{returns}"'
    )
    with pytest.raises(ExportError, match=rf'head\.values is "{told}".*{said}'):
        export(text, keywords={"values": 3, "returns": returns})


def test_grades_of_another_number_are_told(export):
    text = CONTRACT + "[head]\ndistribution = [1, 2, 3]\n[network]\nvalues = 4"
    with pytest.raises(ExportError, match=r"head\.distribution has 3 grades, and the network returns \[2, 4\]"):
        export(text, keywords={"values": 4})


@pytest.mark.parametrize(("returns", "names"), [("tuple", (1, 2, 0)), ("dict", ("'mos'", "'map'", "'features'"))])
def test_outputs_are_picked_by_place_or_name(export, returns, names):
    score, cells, features = names
    text = (
        CONTRACT.replace("[score]", f"[score]\noutput = {score}")
        + f"""
[[maps]]
name = "quality_map"
output = {cells}
rows = 15
columns = 15
[[extras]]
name = "features"
output = {features}
shape = [6]
labels = ["a", "b", "c", "d", "e", "f"]
[network]
returns = "{returns}"
"""
    )
    _, network = export(text, keywords={"returns": returns})
    contract = read_contract("x.onnx")
    assert [output.name for output in contract.extras] == ["features"]
    inputs = items(contract)
    expected = (
        [np.asarray(value.detach()) for value in network(torch.from_numpy(inputs)).values()]
        if (returns == "dict")
        else [value.detach().numpy() for value in network(torch.from_numpy(inputs))]
    )
    outputs = run(["features", "score", "quality_map"], image=inputs)
    for actual, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(actual, wanted.reshape(actual.shape), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("output", "returns", "said"),
    [
        ("'moss'", "dict", r"score: output = 'moss', and the network returns 3 values \(features, mos, map\)"),
        ("3", "tuple", r"score: output = 3, and the network returns 3 values"),
        ("'mos'", "tensor", r"score: output = 'mos', and the network returns one tensor"),
    ],
)
def test_an_output_that_is_not_there_is_told(export, output, returns, said):
    text = CONTRACT.replace("[score]", f"[score]\noutput = {output}") + f'[network]\nreturns = "{returns}"'
    with pytest.raises(ExportError, match=said):
        export(text, keywords={"returns": returns})


def test_a_pair_is_compared(export):
    text = CONTRACT.replace('"nr"', '"fr"')
    _, network = export(text)
    image, reference = items(read_contract("x.onnx")), items(read_contract("x.onnx"))[::-1].copy()
    expected = network(torch.from_numpy(image), torch.from_numpy(reference)).squeeze(1).detach().numpy()
    np.testing.assert_allclose(run(["score"], image=image, reference=reference)[0], expected, rtol=0, atol=ROUNDING)


WRAPPED = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "net": lambda state: {"net": state},
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params_ema": state},
    "ema": lambda state: {"ema": state},
    "module": lambda state: {"module": state},
    "prefix module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "prefix model.": lambda state: {f"model.{key}": value for key, value in state.items()},
    "prefix net.": lambda state: {f"net.{key}": value for key, value in state.items()},
    "prefix _orig_mod.": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state: {"params": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    "half": lambda state: {key: value.half() for key, value in state.items()},
    "bfloat16": lambda state: {"net": {key: value.bfloat16() for key, value in state.items()}},
}
ENTRIES = {
    "bare": None,
    "half": None,
    "bfloat16": "net",
    "both": "params.module._orig_mod",
    "prefix module.": "module",
    "prefix model.": "model",
    "prefix net.": "net",
    "prefix _orig_mod.": "_orig_mod",
}


@pytest.mark.parametrize("form", WRAPPED)
def test_checkpoints_are_taken_as_they_come_and_what_was_taken_is_said(tmp_path, form):
    (tmp_path / "c.toml").write_text(CONTRACT, encoding="utf-8")
    state = Small().state_dict()
    torch.save(WRAPPED[form](state), tmp_path / "net.pth")
    path = tmp_path / "c.toml"
    system = described_system(path, read_contract_file(path), Factory(f"{__name__}:Small", {}))
    checkpoint = load_checkpoint(system, str(tmp_path / "net.pth"), None)
    assert checkpoint.entry == ENTRIES.get(form, form)
    network = system.build("default")
    load_into(network, checkpoint, system.key_map("default"))
    for key, value in network.state_dict().items():
        rounded = {"half": torch.float16, "bfloat16": torch.bfloat16}.get(form, torch.float32)
        assert torch.equal(value, state[key].to(rounded).float())


def test_raw_and_averaged_weights_are_asked_about_and_safetensors_read(export):
    def both(net, path):
        state = net.state_dict()
        torch.save({"params": {key: value + 1 for key, value in state.items()}, "params_ema": state}, path)

    with pytest.raises(CheckpointError, match="``weights_key``: params, params_ema"):
        export(CONTRACT, weights=both)
    report, _ = export(CONTRACT, weights=both, weights_key="params_ema")
    assert report.contract.weights.entry == "params_ema"
    report, _ = export(
        CONTRACT,
        file="net.safetensors",
        weights=lambda net, path: safetensors.torch.save_file(net.state_dict(), path, metadata={"licence": "MIT"}),
    )
    assert report.contract.weights.licence == "MIT"


def test_parameters_that_a_contract_file_answers_are_refused(export):
    with pytest.raises(UsageError, match="``maps``: described predicts no quality map"):
        export(CONTRACT, maps=True)
    with pytest.raises(UsageError, match="``restored``: described has no such output"):
        export(CONTRACT, restored=True)
    with pytest.raises(UsageError, match="``task=fr``: described default does nr"):
        export(CONTRACT, task="fr")
    with pytest.raises(UsageError, match="``cache_reference``: described nr has no features"):
        export(CONTRACT, cache_reference=True)


def test_a_network_that_fails_is_told_by_its_own_words(export):
    with pytest.raises(UsageError, match=r"``module=.*: gives dict; return the network"):
        export(CONTRACT, factory="no_network")
    with pytest.raises(ExportError, match=r"fails on a batch of 2 crops: .*size of tensor"):
        export(CONTRACT, factory="Failing")


def no_network() -> dict[str, int]:
    return {}


class Failing(Small):
    def forward(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        return self.layer(image) + image


def test_what_names_the_network_goes_together():
    with pytest.raises(UsageError, match="``module`` alone: give ``model``"):
        iqa_export.export(module="a:b")
    with pytest.raises(UsageError, match="``model`` is missing: give ``model``"):
        iqa_export.export()
    with pytest.raises(UsageError, match="``model=yoto``: a system says itself"):
        iqa_export.export("yoto", contract="x.toml")
