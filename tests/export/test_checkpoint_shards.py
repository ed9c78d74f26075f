"""A checkpoint in several files: read by its index, or refused with what is wrong."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from iqa_export.checkpoint_files import CheckpointError
from iqa_export.checkpoints import KeyMap, expected_keys, load_into, read_checkpoint
from iqa_runtime.errors import FileError

NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


@pytest.fixture
def index(tmp_path) -> Path:
    """Layer 0 in the first file, layer 1 in the second."""
    state = network().state_dict()
    for layer, name in enumerate(NAMES):
        part = {key: value for key, value in state.items() if key.startswith(str(layer))}
        safetensors.torch.save_file(part, tmp_path / name, metadata={"licence": "CC0-1.0"})
    path = tmp_path / "model.safetensors.index.json"
    files = {key: NAMES[int(key[0])] for key in state}
    path.write_text(json.dumps({"metadata": {"total_size": 64}, "weight_map": files}, indent=2), encoding="utf-8")
    return path


def changed(path: Path, change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["weight_map"])
    path.write_text(json.dumps(content), encoding="utf-8")


def test_all_entries_are_loaded_and_the_digest_covers_every_byte(index):
    checkpoint = read_checkpoint(index, expected=[expected_keys(network(), KeyMap())])
    loaded = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    load_into(loaded, checkpoint, KeyMap())
    for key, value in network().state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    whole = b"".join(file.read_bytes() for file in (index, *(index.with_name(name) for name in NAMES)))
    assert checkpoint.sha256 == sha256(whole).hexdigest()
    assert checkpoint.file == index.name
    assert checkpoint.metadata["licence"] == "CC0-1.0"


def test_files_of_torch_save_and_prefixes_are_read_likewise(tmp_path):
    state = {f"net.{key}": value.half() for key, value in network().state_dict().items()}
    files = {key: f"pytorch_model-{key[4]}.bin" for key in state}
    for name in set(files.values()):
        torch.save({key: state[key] for key in state if files[key] == name}, tmp_path / name)
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    checkpoint = read_checkpoint(path, expected=[expected_keys(network(), KeyMap())])
    assert checkpoint.entry == "net"
    assert checkpoint.entries.keys() == network().state_dict().keys()


def test_other_names_of_one_tensor_need_no_place_in_the_index(tmp_path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    safetensors.torch.save_model(tied, tmp_path / "one.safetensors")
    with safetensors.safe_open(tmp_path / "one.safetensors", "pt") as file:
        files = dict.fromkeys(file.keys(), "one.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": files}), encoding="utf-8")
    assert len(files) == 3
    assert read_checkpoint(path).entries.keys() == tied.state_dict().keys()


def test_a_missing_file_is_named(index):
    index.with_name(NAMES[1]).unlink()
    with pytest.raises(FileError, match=rf"1 of its 2 files are not beside it \('{NAMES[1]}'\); download"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    "outside", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b", "..", "", "a\nb"]
)
def test_a_file_outside_of_the_folder_is_never_opened(index, outside):
    changed(index, lambda files: files.update({"0.weight": outside}))
    with pytest.raises(CheckpointError, match="lie in the folder of its index"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.update({"2.weight": NAMES[1]}), "it lacks '2.weight'"),
        (lambda files: files.pop("1.bias"), "it has beside them '1.bias'"),
        (lambda files: files.update({"1.bias": NAMES[0]}), "it lacks '1.bias'"),
        (lambda files: files.update({"1.bias": 2}), "does not name a file for each entry"),
        (lambda files: files.clear(), "does not name a file for each entry"),
    ],
)
def test_index_and_files_must_agree(index, change, said):
    changed(index, change)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(index)


def test_an_entry_in_two_files_is_refused(index):
    """As JSON that names it twice, of which the last would win, or in a file that the index does not say."""
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace('"0.bias"', f'"1.bias": "{NAMES[0]}", "0.bias"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has '1\.bias' more than once"):
        read_checkpoint(index)
    index.write_text(text, encoding="utf-8")
    state = safetensors.torch.load_file(index.with_name(NAMES[0]))
    safetensors.torch.save_file({**state, "1.bias": torch.ones(1)}, index.with_name(NAMES[0]))
    with pytest.raises(CheckpointError, match=r"it has beside them '1\.bias'"):
        read_checkpoint(index)


def test_a_damaged_file_is_named(index):
    part = index.with_name(NAMES[1])
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=rf"{NAMES[1]}: cut short"):
        read_checkpoint(index)


def test_one_of_the_files_alone_asks_for_the_index(index):
    checkpoint = read_checkpoint(index.with_name(NAMES[0]), expected=[expected_keys(network(), KeyMap())])
    with pytest.raises(CheckpointError, match="one of 2 parts; give the index beside them"):
        load_into(network(), checkpoint, KeyMap())


def test_an_index_among_its_own_files_is_no_checkpoint(index):
    changed(index, lambda files: files.update(dict.fromkeys(("0.weight", "0.bias"), index.name)))
    with pytest.raises(CheckpointError, match="JSON text"):
        read_checkpoint(index)
