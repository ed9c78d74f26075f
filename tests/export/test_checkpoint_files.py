"""Files by content: everything that is given for weights and is none is named as what it is."""

import argparse
import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from scipy.io import savemat
from torch import nn

from iqa_export.checkpoint_files import CheckpointError, read_content
from iqa_runtime.errors import FileError

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def saved(content: object, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(2))
    return file.getvalue()


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("net.pth")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def zipped(data: bytes, *names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names or ("net.pth",):
            archive.writestr(name, data)
    return file.getvalue()


def matlab(version: str = "5") -> bytes:
    file = io.BytesIO()
    savemat(file, {"weight": np.ones((2, 3), np.float32)}, format=version)
    return file.getvalue()


def graph() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "score")]
    node = helper.make_node("Relu", ["image"], ["score"])
    return helper.make_model(helper.make_graph([node], "graph", ends[:1], ends[1:])).SerializeToString()


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)), file)
    return file.getvalue()


def exported() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        saved(STATE),
        saved(STATE, _use_new_zipfile_serialization=False),
        safetensors.torch.save(STATE),
    ],
    ids=["zip", "legacy", "safetensors"],
)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net.SAFETENSORS", "net"])
def test_the_name_does_not_matter(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    content, _ = read_content(path)
    assert content.keys() == STATE.keys()
    assert all(torch.equal(content[key], STATE[key]) for key in STATE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of TorchScript, by PyTorch
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "empty"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (lambda: b"\n<!DOCTYPE html><html>quota</html>", "web page"),
        (lambda: b"<HTML><body>sign in</body></HTML>", "web page"),
        (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (lambda: b'{"message": "Not Found"}', "JSON text"),
        (lambda: b"<?xml version='1.0'?>\n<net name='Model0' version='11'>", "a graph of OpenVINO"),
        (lambda: b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\r\noid sha256:00\r\n", "git lfs pull"),
        (lambda: "<!DOCTYPE html><html>".encode("utf-16"), "web page"),
        (lambda: b"404: Not Found", "but text, which begins with '404: Not Found'"),
        (lambda: b"model: tiny\nconfig: {a: 1}\n", "but text, which begins with 'model: tiny'"),
        (lambda: bytes(4096), "nothing but zeros.*download it again"),
        (lambda: saved(STATE)[:700], "cut short"),
        (lambda: safetensors.torch.save(STATE)[:-4], "cut short"),
        (lambda: safetensors.torch.save(STATE)[:30], "cut short"),
        (lambda: safetensors.torch.save(STATE) + b"more", "longer than its header says"),
        (lambda: gzip.compress(saved(STATE)), "gunzip"),
        (lambda: tarred(saved(STATE)), "tar -xf"),
        (lambda: zipped(saved(STATE)), "zip archive; unpack"),
        (npz, "torch.from_numpy"),
        (script, "TorchScript"),
        (exported, "torch.export"),
        *(
            (lambda protocol=protocol: pickle.dumps({"weight": np.zeros(2)}, protocol), "torch.save did not write")
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        (lambda: pickle.dumps([nn.Linear(1, 1)], 0), "torch.save did not write"),
        (lambda: zlib.compress(pickle.dumps(np.zeros(99))), "joblib"),
        (matlab, r"MATLAB.*torch\.from_numpy"),
        (lambda: matlab("4"), r"MATLAB.*torch\.from_numpy"),
        (lambda: b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(99), "MATLAB"),
        (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5.*Keras"),
        (lambda: zipped(b"", "config.json", "model.weights.h5"), "Keras"),
        (lambda: b"GGUF\x03\0\0\0" + bytes(99), "GGUF"),
        (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite"),
        (graph, "an ONNX graph already"),
        (lambda: b"\x08\x01\x12\xb0\x02\n\xab" + bytes(99), "a graph of TensorFlow;"),
        (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"),
        (lambda: b"weights\0honestly\xff", "neither a file of torch.save nor safetensors; if"),
        (lambda: saved(STATE, _use_new_zipfile_serialization=False)[:-9], "damaged or cut short"),
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_what_is_no_checkpoint_is_named(tmp_path, make, message, name):
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(CheckpointError, match=message) as caught:
        read_content(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("place", range(0, 24, 5))
def test_a_weight_with_another_bit_is_damage(tmp_path, place):
    data = bytearray(saved(STATE))
    data[data.find(STATE["weight"].numpy().tobytes()) + place] ^= 0x40
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged: the bytes of its member archive/data/0 do not have"):
        read_content(path)


def test_a_file_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "net.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    with zipfile.ZipFile(tmp_path / "net.pth") as archive:
        assert archive.testzip() is not None
    content, _ = read_content(tmp_path / "net.pth")
    assert all(torch.equal(content[key], STATE[key]) for key in STATE)


def test_a_folder(tmp_path):
    with pytest.raises(FileError, match="a folder"):
        read_content(tmp_path)


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(0.91),
        np.float32(0.91),
        np.int64(3),
        np.bool_(True),
        np.arange(4.0),
        np.array(["a", "b"]),
        argparse.Namespace(rate=np.float64(1e-4)),
        Path("runs/1"),
    ],
    ids=repr,
)
def test_plain_values_beside_the_state_dict(tmp_path, beside):
    torch.save({"state_dict": STATE, "beside": beside}, tmp_path / "net.pth")
    content, _ = read_content(tmp_path / "net.pth")
    assert repr(content["beside"]) == repr(beside)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    "content", [Payload(), {"a": argparse.Namespace(x=Payload())}, {"a": np.array([Payload()], dtype=object)}]
)
def test_nothing_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "net.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_content(Path("net.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("wrap", [lambda network: network, lambda network: {"model": network, "ema": None}])
def test_a_whole_module_is_named(tmp_path, wrap):
    torch.save(wrap(nn.Linear(2, 1)), tmp_path / "net.pth")
    message = r"object of torch\.nn\.modules\.linear\.Linear, as a whole pickled network.*state_dict\(\)"
    with pytest.raises(CheckpointError, match=message):
        read_content(tmp_path / "net.pth")
