"""The authors' reference cases: networks with rebuilt weights, inputs, and outputs to agree with."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fill import fill, image
from iqa_export.checkpoints import Checkpoint, load_into
from iqa_export.systems import find_system

REFERENCE = Path(__file__).parent.parent / "reference"
CASES = {name: json.loads((REFERENCE / f"{name}_cases.json").read_text(encoding="utf-8")) for name in ("yoto", "cvrkd")}


@dataclass(frozen=True)
class Case:
    """One reference case: normalised inputs, the segment of the reference side, and the authors' outputs."""

    image: Tensor
    reference: Tensor
    segment: int
    outputs: dict[str, np.ndarray]


def published_state(name: str) -> dict[str, Tensor]:
    """Rebuild the float entries of an authors' checkpoint."""
    state = json.loads((REFERENCE / f"{name}_state.json").read_text(encoding="utf-8"))
    seed = CASES[name]["weight_seed"]
    return {
        key: torch.from_numpy(fill(key, tuple(shape), seed))
        for key, (shape, dtype) in state.items()
        if dtype == "float32"
    }


def published_network(name: str, variant: str) -> nn.Module:
    system = find_system(name)
    network = system.build(variant).requires_grad_(False)
    load_into(network, Checkpoint(published_state(name), "reference", ""), system.key_map(variant))
    return network


def normalised(system_name: str, pixels: np.ndarray) -> Tensor:
    """Turn (..., H, W, 3) uint8 into (..., 3, H, W) as the system wants it."""
    system = find_system(system_name)
    values = (pixels.astype(np.float32) / 255 - np.float32(system.mean)) / np.float32(system.std)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, -3)))


def read_case(name: str, case: str) -> Case:
    settings = CASES[name]["cases"][case]
    with np.load(REFERENCE / f"{name}.npz") as archive:
        outputs = {key.removeprefix(f"{case}/"): archive[key] for key in archive.files if key.startswith(f"{case}/")}
    batch = settings["batch"]
    per_item = find_system(name).crops_per_item
    sides = []
    for side in ("x", "y"):
        pixels = image(settings[side if side in settings else "x"], per_item * batch)
        if per_item > 1:
            pixels = pixels.reshape(batch, per_item, *pixels.shape[1:])
        sides.append(normalised(name, pixels))
    return Case(*sides, segment=int(settings.get("mode") == "FR"), outputs=outputs)


@pytest.fixture(scope="session")
def yoto_network() -> nn.Module:
    return published_network("yoto", "swin_t")


@pytest.fixture(scope="session")
def cvrkd_network() -> nn.Module:
    return published_network("cvrkd", "student")


@pytest.fixture(scope="session")
def load_case() -> Callable[[str, str], Case]:
    return read_case


@pytest.fixture(params=list(CASES["yoto"]["cases"]))
def yoto_case(request: pytest.FixtureRequest) -> tuple[str, Case]:
    return request.param, read_case("yoto", request.param)


@pytest.fixture(scope="session")
def cvrkd_case() -> Case:
    return read_case("cvrkd", "nar")


@pytest.fixture(scope="session")
def yoto_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors' training writes it: their keys, the index buffers of Swin among them."""
    state = published_state("yoto")
    shapes = json.loads((REFERENCE / "yoto_state.json").read_text(encoding="utf-8"))
    state |= {key: torch.zeros(shape, dtype=torch.int64) for key, (shape, dtype) in shapes.items() if dtype == "int64"}
    path = tmp_path_factory.mktemp("checkpoints") / "yoto.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def cvrkd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "NAR_student_cross_dataset.pth"
    torch.save(published_state("cvrkd"), path)
    return path
