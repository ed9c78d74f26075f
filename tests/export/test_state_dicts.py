"""State dicts inside what training loops save: found by the names of a network, asked about where there are two."""

import pytest
import torch
from torch import nn

from iqa_export.checkpoints import KeyMap, expected_keys, load_into, read_checkpoint
from iqa_export.state_dicts import CheckpointError, find_state


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 1)


RAW = {name: value.clone() for name, value in Network().state_dict().items()}
AVERAGED = {name: value + 1 for name, value in RAW.items()}
EXPECTED = [expected_keys(Network(), KeyMap())]


def prefixed(prefix: str, state: dict[str, torch.Tensor] = RAW) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def holds(entries, state) -> bool:
    return entries.keys() == state.keys() and all(torch.equal(entries[name], state[name]) for name in state)


ONE_CANDIDATE = {
    "bare": (RAW, None, ()),
    "DataParallel": (prefixed("module."), "module", ()),
    "compiled and distributed": (prefixed("module._orig_mod."), "module._orig_mod", ()),
    "Lightning": ({"state_dict": prefixed("net."), "epoch": 3, "callbacks": {}}, "state_dict.net", ()),
    "a loss with weights": (
        {"state_dict": prefixed("model.") | {"criterion.pos_weight": torch.ones(1)}},
        "state_dict.model",
        ("criterion.pos_weight",),
    ),
    "a loss beside bare entries": (RAW | {"criterion.pos_weight": torch.ones(1)}, None, ("criterion.pos_weight",)),
    "DeepSpeed": ({"module": RAW, "ds_version": "0.14", "global_steps": 10}, "module", ()),
    "BasicSR": ({"params": RAW}, "params", ()),
    "timm, averages alone": ({"state_dict_ema": RAW, "epoch": 7}, "state_dict_ema", ()),
    "averaging": (prefixed("module.") | {"n_averaged": torch.tensor(5)}, "module", ("n_averaged",)),
    "extra state": (RAW | {"_extra_state": None}, None, ("_extra_state",)),
    "an epoch among them": (RAW | {"epoch": 3}, None, ("epoch",)),
    "a tensor beside": ({"state_dict": RAW, "rate": torch.tensor(0.1)}, "state_dict", ()),
    "an optimiser": ({"model": RAW, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "model", ()),
    "a name of one's own": ({"netG": RAW}, "netG", ()),
    "a tuple": ((RAW, {"rate": 1}), "0", ()),
    "keys that are no text": ({0: "first", "model": RAW}, "model", ()),
    "two that are equal": ({"model": RAW, "ema": dict(RAW)}, "model", ()),
}


@pytest.mark.parametrize("case", ONE_CANDIDATE)
def test_found(case):
    content, entry, ignored = ONE_CANDIDATE[case]
    state = find_state(content, "net.pth", expected=EXPECTED)
    assert holds(state.entries, RAW)
    assert (state.entry, state.ignored) == (entry, ignored)


def test_wrappers_of_inner_modules():
    content = {name.replace("layers.", "layers.module."): value for name, value in RAW.items()}
    assert holds(find_state(content, "net.pth", expected=EXPECTED).entries, RAW)


TWO_CANDIDATES = {
    "BasicSR": ({"params": RAW, "params_ema": AVERAGED}, "params", "params_ema"),
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGED, "epoch": 7}, "state_dict", "state_dict_ema"),
    "YOLO": ({"model": RAW, "ema": AVERAGED}, "model", "ema"),
    "prefixes": (prefixed("online_model.") | prefixed("ema_model.", AVERAGED), "online_model", "ema_model"),
    "Lightning": (
        {"state_dict": prefixed("model.") | prefixed("ema_model.", AVERAGED)},
        "state_dict.model",
        "state_dict.ema_model",
    ),
    "bare and a prefix": (RAW | prefixed("ema.", AVERAGED), ".", "ema"),
    "nested": ({"models": {"student": RAW, "teacher": AVERAGED}}, "models.student", "models.teacher"),
}


@pytest.mark.parametrize("case", TWO_CANDIDATES)
def test_raw_and_averaged_are_asked_about(case):
    content, raw, averaged = TWO_CANDIDATES[case]
    with pytest.raises(CheckpointError) as caught:
        find_state(content, "net.pth", expected=EXPECTED)
    message = str(caught.value)
    assert "weights_key" in message
    assert message.endswith((f": {raw}, {averaged}", f": {averaged}, {raw}"))
    for key, state in ((raw, RAW), (averaged, AVERAGED)):
        found = find_state(content, "net.pth", expected=EXPECTED, weights_key=key)
        assert holds(found.entries, state), key
        assert found.entry == key


def test_the_beginning_of_an_entry_chooses_it():
    content = {"params": prefixed("module."), "params_ema": prefixed("module.", AVERAGED)}
    found = find_state(content, "net.pth", expected=EXPECTED, weights_key="params_ema")
    assert holds(found.entries, AVERAGED)
    assert found.entry == "params_ema.module"


def test_a_key_that_is_not_there():
    with pytest.raises(CheckpointError, match=r"no weights under 'ema'.*: params"):
        find_state({"params": RAW}, "net.pth", expected=EXPECTED, weights_key="ema")


def test_without_expectations_two_are_asked_about_too():
    with pytest.raises(CheckpointError, match="params, params_ema"):
        find_state({"params": RAW, "params_ema": AVERAGED}, "net.pth")
    assert holds(find_state({"params": prefixed("module.")}, "net.pth").entries, RAW)


def test_of_what_does_not_fit_the_nearest_is_named(tmp_path):
    state = prefixed("module.")
    del state["module.head.bias"]
    torch.save({"state_dict": state, "loss_state": {"weight": torch.ones(2)}}, tmp_path / "net.pth")
    checkpoint = read_checkpoint(tmp_path / "net.pth", expected=EXPECTED)
    with pytest.raises(CheckpointError, match=r"its entry state_dict\.module.*: 1 missing \(head\.bias\)"):
        load_into(Network(), checkpoint, KeyMap())


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"loss": 0.5},
        [torch.ones(1)],
        torch.ones(1),
        {"optimizer": {"state": {}}},
        {"optimizer": {"state": {}}, "epoch": torch.tensor(3)},
    ],
)
def test_no_state_dict(content):
    with pytest.raises(CheckpointError, match="no state dict"):
        find_state(content, "net.pth", expected=EXPECTED)


@pytest.mark.parametrize(
    "wrap", [lambda arrays: arrays, lambda arrays: {"state_dict": arrays, "epoch": 3}, lambda arrays: [1, [arrays]]]
)
def test_a_state_dict_of_arrays_is_named(wrap):
    content = wrap({name: value.numpy() for name, value in RAW.items()})
    with pytest.raises(CheckpointError, match=r"net\.pth: arrays of NumPy and no tensors; .*torch\.from_numpy"):
        find_state(content, "net.pth", expected=EXPECTED)


PARAMETERS = {name: value + 1 for name, value in RAW.items() if name in dict(Network().named_parameters())}
AVERAGES = {
    "parameters alone": ({"model": RAW, "ema_shadow": PARAMETERS}, "model", "ema_shadow"),
    "parameters under another name": ({"model": RAW, "slow": PARAMETERS}, "model", "slow"),
    "a list": (
        {"model": RAW, "ema": {"decay": 0.999, "shadow_params": [*PARAMETERS.values()], "collected_params": None}},
        "model",
        "ema",
    ),
    "names without dots": (
        {
            "state_dict": prefixed("model.")
            | {f"model_ema.{name.replace('.', '')}": value for name, value in AVERAGED.items()}
            | {"model_ema.decay": torch.tensor(0.999)}
        },
        "state_dict.model",
        "state_dict.model_ema",
    ),
    "arrays": (
        {"model": RAW, "modelEMA": {name: value.numpy() for name, value in AVERAGED.items()}},
        "model",
        "modelEMA",
    ),
}


@pytest.mark.parametrize("case", AVERAGES)
def test_averages_in_other_forms_are_told(case):
    content, raw, averaged = AVERAGES[case]
    with pytest.raises(CheckpointError) as caught:
        find_state(content, "net.pth", expected=EXPECTED)
    assert f"beside {raw} " in str(caught.value)
    assert f": {averaged}; ``weights_key={raw}``" in str(caught.value)
    assert holds(find_state(content, "net.pth", expected=EXPECTED, weights_key=raw).entries, RAW)


@pytest.mark.parametrize(
    "content",
    [
        {"model": RAW, "ema": {name: value for name, value in RAW.items() if "running" not in name}},
        {"state_dict_ema": RAW | {"criterion.weight": torch.ones(2)}},
        {"model": RAW, "ema_updates": torch.tensor(3), "ema": {"decay": 0.999}},
    ],
    ids=["equal", "averages alone", "counters"],
)
def test_what_says_no_more_is_not_asked_about(content):
    assert holds(find_state(content, "net.pth", expected=EXPECTED).entries, RAW)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old normalisations, by PyTorch
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (nn.utils.weight_norm, nn.utils.parametrizations.weight_norm),
        (nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm),
    ],
    ids=["weight", "spectral"],
)
@pytest.mark.parametrize("forward", [True, False], ids=["old file", "new file"])
def test_old_and_new_normalisations(old, new, forward):
    torch.manual_seed(0)
    writer, reader = (old, new) if forward else (new, old)
    written = nn.Sequential(writer(nn.Linear(3, 2)))
    read = nn.Sequential(reader(nn.Linear(3, 2)))
    crops = torch.randn(4, 3)
    for _ in range(3):
        written(crops)  # the power iteration of spectral normalisation
    expected = written.eval()(crops)
    state = find_state(written.state_dict(), "net.pth", expected=[expected_keys(read, KeyMap())])
    assert state.entries.keys() == read.state_dict().keys()
    read.load_state_dict(state.entries)
    assert torch.equal(read.eval()(crops), expected)
