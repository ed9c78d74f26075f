import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from iqa_export.checkpoints import (
    Checkpoint,
    CheckpointError,
    KeyMap,
    expected_keys,
    load_into,
    random_checkpoint,
    read_checkpoint,
)
from iqa_export.systems import find_system
from iqa_runtime.errors import FileError, IqaError

REFERENCE = Path(__file__).parent.parent / "reference"
KEYS = KeyMap({"0": "first", "1.weight": "second.gain"}, ignored=(r"unused\..*",))


def tiny() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def tiny_state() -> dict[str, torch.Tensor]:
    return {
        "first.weight": torch.full((3, 2), 2.0),
        "first.bias": torch.full((3,), 3.0),
        "second.gain": torch.full((3,), 4.0),
        "1.bias": torch.full((3,), 5.0),
        "1.running_mean": torch.full((3,), 6.0),
        "1.running_var": torch.full((3,), 7.0),
        "unused.thing": torch.zeros(9),
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model": {"state_dict": {f"module.model.{key}": value for key, value in state.items()}}},
    ],
    ids=["bare", "state_dict", "model", "module.", "nested"],
)
def test_wrapped_by_training_loops(tmp_path, wrap):
    path = tmp_path / "net.pth"
    torch.save(wrap(tiny_state()), path)
    network = tiny()
    load_into(network, read_checkpoint(path), KEYS)
    expected = {"0.weight": 2, "0.bias": 3, "1.weight": 4, "1.bias": 5, "1.running_mean": 6, "1.running_var": 7}
    for name, value in expected.items():
        assert (network.state_dict()[name] == value).all(), name


def test_safetensors(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(tiny_state(), path)
    checkpoint = read_checkpoint(path)
    load_into(tiny(), checkpoint, KEYS)
    assert checkpoint.file == "net.safetensors"
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)


def test_one_error_lists_everything_by_published_key():
    state = tiny_state()
    del state["second.gain"]
    state["extra"] = torch.zeros(1)
    state["first.bias"] = torch.zeros(4)
    with pytest.raises(CheckpointError) as caught:
        load_into(tiny(), Checkpoint(state, "net.pth", ""), KEYS)
    message = str(caught.value)
    assert "1 missing (second.gain)" in message
    assert "1 unexpected (extra)" in message
    assert "1 misshapen (first.bias (4,) floating, expected (3,) floating)" in message


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": tiny_state(), "extra": Payload()}, "evil.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(Path("evil.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(range(256)) * 8])
def test_damaged_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_truncated_file(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(tiny_state(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(IqaError, match=r"net\.pth"):
        read_checkpoint(path)


def test_no_state_dict(tmp_path):
    path = tmp_path / "log.pth"
    torch.save({"loss": 0.5}, path)
    with pytest.raises(CheckpointError, match="no state dict"):
        read_checkpoint(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"absent\.pth: cannot read"):
        read_checkpoint(tmp_path / "absent.pth")


class Buffers(nn.Module):
    """State that is no parameter: an order of channels, a mask, a fixed filter, an attention mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("order", torch.arange(3))
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        self.register_buffer("filter", torch.tensor([0.25, 0.5, 0.25]))
        self.register_buffer("hidden", torch.tensor([0.0, -torch.inf, 0.0]))


def test_buffers_of_any_type_are_loaded():
    state = Buffers().state_dict() | {
        "order": torch.tensor([2, 0, 1]),
        "mask": torch.tensor([1, 0, 1], dtype=torch.uint8),  # as masks were before PyTorch had booleans
        "filter": torch.tensor([0.5, 0.0, 0.5]),
    }
    network = Buffers()
    load_into(network, Checkpoint(state, "net.pth", ""), KeyMap())
    assert network.order.tolist() == [2, 0, 1]
    assert network.mask.tolist() == [True, False, True]
    assert network.mask.dtype == torch.bool
    assert network.filter.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("order", None, r"1 missing \(order\)"),
        ("order", torch.arange(4), r"order \(4,\) int64, strided, expected \(3,\) int64"),
        ("order", torch.zeros(3), r"order \(3,\) floating, expected \(3,\) int64"),
        ("mask", torch.tensor([0, 1, 2]), "mask .*expected .*bool"),
        ("filter", torch.zeros(3, dtype=torch.int64), r"filter .*int64.*expected \(3,\) floating"),
        ("layer.bias", torch.zeros(3, device="meta"), "without values"),
        ("layer.bias", torch.tensor([0, torch.inf, 0]), r"1 not finite \(layer.bias\).*diverged"),
        ("layer.bias", torch.tensor([0, 1e300, 0], dtype=torch.float64), "not finite"),
        ("filter", torch.tensor([0, torch.nan, 0]), r"not finite \(filter\)"),
    ],
)
def test_state_that_does_not_fit_is_refused(name, value, message):
    state = dict(Buffers().state_dict())
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(CheckpointError, match=message):
        load_into(Buffers(), Checkpoint(state, "net.pth", ""), KeyMap())


@pytest.mark.parametrize(
    ("file", "change", "remedy"),
    [
        ("net.pth", lambda value: value.to("meta"), r"saved without values .*torch\.save"),
        ("net.pth", lambda value: value.to(torch.int8), r"quantised; give those that they were made of"),
        ("net.pth", lambda value: value.to_sparse(), r"value\.to_dense\(\)"),
        ("net.pth", lambda value: value.double() + 1e300, "float32 has no numbers that large"),
        ("net.pth", lambda value: value.double() * torch.nan, "diverged"),
        ("net.pth", lambda value: value[:, None], "check which network the weights are for$"),
        ("net.pth", lambda value: value if value.ndim == 2 else None, "whether the file is one part of several"),
        (
            "net-00002-of-00003.safetensors",
            lambda value: value if value.ndim == 2 else None,
            r"one of 3 parts; give the index beside them",
        ),
    ],
)
def test_the_way_out_fits_what_is_wrong(file, change, remedy):
    state = {key: change(value) for key, value in nn.Linear(2, 3).state_dict().items()}
    state = {key: value for key, value in state.items() if value is not None}
    with pytest.raises(CheckpointError, match=remedy):
        load_into(nn.Linear(2, 3), Checkpoint(state, file, ""), KeyMap())


def test_an_adapter_is_named():
    state = {"lora_A.weight": torch.zeros(1, 2), "lora_B.weight": torch.zeros(3, 1)}
    with pytest.raises(CheckpointError, match=r"adapter \(LoRA\)"):
        load_into(nn.Linear(2, 3), Checkpoint(state, "net.pth", ""), KeyMap())


class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class TiedModules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.second = self.first = nn.Linear(2, 2)

    def forward(self, x):
        return self.second(self.first(x))


def written_by_safetensors(network, path):
    safetensors.torch.save_model(network, path)


def written_without(name):
    def write(network, path):
        torch.save({key: value for key, value in network.state_dict().items() if key != name}, path)

    return write


@pytest.mark.parametrize("kind", [TiedWeights, TiedModules])
@pytest.mark.parametrize(
    "write", [written_by_safetensors, *(written_without(f"{name}.weight") for name in ("first", "second"))]
)
def test_tensors_that_are_one_need_one_name(tmp_path, kind, write):
    torch.manual_seed(0)
    trained, network, crops = kind(), kind(), torch.randn(3, 2)
    write(trained, tmp_path / "net")
    checkpoint = read_checkpoint(tmp_path / "net", expected=[expected_keys(network, KeyMap())])
    load_into(network, checkpoint, KeyMap())
    assert torch.equal(network(crops), trained(crops))


def test_of_tensors_that_are_one_two_values_are_refused(tmp_path):
    state = TiedWeights().state_dict()
    torch.save(state | {"second.weight": state["first.weight"] + 1}, tmp_path / "net.pth")
    checkpoint = read_checkpoint(tmp_path / "net.pth", expected=[expected_keys(TiedWeights(), KeyMap())])
    with pytest.raises(CheckpointError, match=r"1 unlike, though one tensor.* \(first\.weight and second\.weight\)"):
        load_into(TiedWeights(), checkpoint, KeyMap())


def test_averages_beside_tied_weights_are_asked_about(tmp_path):
    torch.save({"model": TiedWeights().state_dict(), "ema": list(TiedWeights().parameters())}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="averaged weights"):
        read_checkpoint(tmp_path / "net.pth", expected=[expected_keys(TiedWeights(), KeyMap())])


def test_random_values_of_tensors_that_are_one_are_one():
    network = TiedWeights()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    assert network.first.weight is network.second.weight


def test_an_ignored_name_excuses_no_parameter():
    with pytest.raises(CheckpointError, match="1 missing"):
        load_into(nn.Linear(2, 1, bias=False), Checkpoint({}, "net.pth", ""), KeyMap(ignored=("weight",)))


def test_random_leaves_constants_of_the_network_alone():
    network, own = Buffers(), Buffers().state_dict()
    checkpoint = random_checkpoint(network, 0, KeyMap())
    load_into(network, checkpoint, KeyMap())
    for name in ("order", "mask", "filter", "hidden"):
        assert torch.equal(network.state_dict()[name], own[name]), name
    assert not torch.equal(network.layer.weight, Buffers().layer.weight)


class Gained(nn.Module):
    """Its gain, which decides what it computes, is extra state."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain

    def get_extra_state(self):
        return {"gain": self.gain}

    def set_extra_state(self, state):
        self.gain = state["gain"]


def gained(gain=1.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 1), Gained(gain))


@pytest.mark.parametrize("gain", [3.0, torch.tensor(3.0)], ids=["number", "tensor"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_extra_state_of_the_network_is_loaded(tmp_path, gain, prefix):
    torch.save({prefix + name: value for name, value in gained(gain).state_dict().items()}, tmp_path / "net.pth")
    checkpoint = read_checkpoint(tmp_path / "net.pth", expected=[expected_keys(gained(), KeyMap())])
    assert checkpoint.ignored == ()
    network = gained()
    load_into(network, checkpoint, KeyMap())
    assert network[1].gain == 3.0


def test_extra_state_that_is_missing_or_not_taken(tmp_path):
    state = gained().state_dict()
    del state["1._extra_state"]
    for value, message in (
        (None, r"1 missing \(1\._extra_state\)"),
        (7, r"does not take .*1\._extra_state.*TypeError"),
    ):
        torch.save(state | ({} if value is None else {"1._extra_state": value}), tmp_path / "net.pth")
        checkpoint = read_checkpoint(tmp_path / "net.pth", expected=[expected_keys(gained(), KeyMap())])
        with pytest.raises(CheckpointError, match=message):
            load_into(gained(), checkpoint, KeyMap())
    load_into(gained(), random_checkpoint(gained(), 0, KeyMap()), KeyMap())


def test_random_fills_every_tensor():
    network = tiny()
    checkpoint = random_checkpoint(network, 5, KEYS)
    assert not checkpoint.trained
    assert set(checkpoint.entries) == set(tiny_state()) - {"unused.thing"}
    for key, tensor in checkpoint.entries.items():
        assert tensor.std() > 0, key
    assert (checkpoint.entries["1.running_var"] > 0).all()
    again = random_checkpoint(tiny(), 5, KEYS)
    assert again.sha256 == checkpoint.sha256
    assert random_checkpoint(tiny(), 6, KEYS).sha256 != checkpoint.sha256


@pytest.mark.parametrize(("name", "variant"), [("yoto", "swin_t"), ("cvrkd", "student")])
def test_authors_keys_exactly(name, variant):
    """Every float entry of the authors' checkpoint is loaded or known as unused, and nothing of ours is left over."""
    system = find_system(name)
    shapes = json.loads((REFERENCE / f"{name}_state.json").read_text(encoding="utf-8"))
    keys = system.key_map(variant)
    network = system.build(variant)
    ours = {keys.published(key): list(tensor.shape) for key, tensor in network.state_dict().items()}
    for key, (shape, _) in shapes.items():
        assert key in ours or keys.ignores(key), key
        assert ours.get(key, shape) == shape, key
    assert set(ours) <= set(shapes)


def test_sizes_of_the_published_networks():
    counts = {
        name: sum(parameter.numel() for parameter in find_system(name).build(variant).parameters())
        for name, variant in (("yoto", "swin_t"), ("cvrkd", "student"))
    }
    # 769 less than the 83.77 M of the checkpoint: the gate of quadrants that the coarsest map has not.
    assert counts == {"yoto": 83_772_212, "cvrkd": 39_941_104}


def test_half_precision_checkpoint_is_read_as_float32():
    state = {key: tensor.half() for key, tensor in tiny_state().items()}
    network = tiny()
    load_into(network, Checkpoint(state, "half.pth", ""), KEYS)
    assert network[0].weight.dtype == torch.float32
    np.testing.assert_array_equal(network[0].weight.detach(), 2)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (torch.zeros(3, dtype=torch.int64), "int64, strided"),
        (torch.zeros(3, dtype=torch.complex64), "complex64, strided"),
        (torch.zeros(3).to_sparse(), "float32, sparse_coo"),
    ],
)
def test_entries_that_are_no_dense_floats(value, form):
    state = tiny_state() | {"first.bias": value}
    with pytest.raises(CheckpointError, match=form):
        load_into(tiny(), Checkpoint(state, "net.pth", ""), KEYS)
