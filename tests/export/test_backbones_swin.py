"""Swin-T as Microsoft publishes it: its keys and shapes spelt out, and what it computes, written anew with loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iqa_export.backbones import IMAGENET_MEAN, IMAGENET_STD, load_backbone, load_encoder
from iqa_export.checkpoints import CheckpointError
from iqa_export.models import swin
from iqa_export.models.resnet import ResNet50
from iqa_export.models.swin import SwinT

WINDOW, SHIFT, SIZES = 7, 3, (56, 28, 14, 7)
FULL = (96, (2, 2, 6, 2), (3, 6, 12, 24))
SMALL = (8, (2, 2, 2, 2), (1, 2, 4, 8))
CLASSES = {FULL: 21841, SMALL: 10}
"""Of ImageNet-22k; a small number for the small network."""
HALF = (0.5, 0.5, 0.5)
FLOAT32 = 2e-5
"""Of maps with a standard deviation of 1: twelve blocks in float32, measured at 2e-6."""


def shapes(embed: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return key and shape of every float entry of the classification network."""
    entries: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        entries[f"{name}.weight"] = shape
        entries[f"{name}.bias"] = shape[:1]

    layer("patch_embed.proj", embed, 3, 4, 4)
    layer("patch_embed.norm", embed)
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        dim = embed * 2**stage
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}"
            layer(f"{prefix}.norm1", dim)
            entries[f"{prefix}.attn.relative_position_bias_table"] = (169, count)
            layer(f"{prefix}.attn.qkv", 3 * dim, dim)
            layer(f"{prefix}.attn.proj", dim, dim)
            layer(f"{prefix}.norm2", dim)
            layer(f"{prefix}.mlp.fc1", 4 * dim, dim)
            layer(f"{prefix}.mlp.fc2", dim, 4 * dim)
        if stage < 3:
            entries[f"layers.{stage}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
            layer(f"layers.{stage}.downsample.norm", 4 * dim)
    layer("norm", 8 * embed)
    layer("head", CLASSES[embed, depths, heads], 8 * embed)
    return entries


def published(size: tuple[int, tuple[int, ...], tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Return a checkpoint's state dict, random, with the buffers that it keeps beside."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in shapes(*size).items():
        values = rng.standard_normal(shape, np.float32)
        if "norm" in key:
            values = 0.1 * values + key.endswith("weight")
        elif len(shape) > 1 and "table" not in key:
            values /= np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(values.astype(np.float32))
    for stage, depth in enumerate(size[1]):
        for block in range(depth):
            attention = f"layers.{stage}.blocks.{block}"
            state[f"{attention}.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
            if block % 2 and stage < 3:  # of the last stage, classification shifts nothing
                state[f"{attention}.attn_mask"] = torch.zeros((SIZES[stage] // WINDOW) ** 2, 49, 49)
    return state


def normalised(x: Tensor, weight: Tensor | float = 1.0, bias: Tensor | float = 0.0) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * weight + bias


def attended(x: Tensor, state: dict[str, Tensor], heads: int, shift: int) -> Tensor:
    """Attend inside the windows of a map (size, size, dim), window by window and head by head."""
    size, dim = x.shape[0], x.shape[2]
    out = torch.empty_like(x)
    place = torch.arange(WINDOW).repeat_interleave(WINDOW), torch.arange(WINDOW).repeat(WINDOW)
    rows, columns = (axis[:, None] - axis[None, :] + WINDOW - 1 for axis in place)
    table = state["attn.relative_position_bias_table"][rows * (2 * WINDOW - 1) + columns]
    for top in range(0, size, WINDOW):
        for left in range(0, size, WINDOW):
            row, column = top + place[0] + shift, left + place[1] + shift
            # Beyond the last row or column the map goes on from its other end, which is no neighbour.
            beyond = 2 * (row >= size) + (column >= size)
            window = x[row % size, column % size]
            queries, keys, values = (window @ state["attn.qkv.weight"].T + state["attn.qkv.bias"]).chunk(3, 1)
            mixed = []
            for head in range(heads):
                part = slice(head * dim // heads, (head + 1) * dim // heads)
                logits = queries[:, part] @ keys[:, part].T / (dim // heads) ** 0.5 + table[:, :, head]
                logits = logits - 100.0 * (beyond[:, None] != beyond[None, :])
                mixed.append(logits.softmax(1) @ values[:, part])
            out[row % size, column % size] = torch.cat(mixed, 1) @ state["attn.proj.weight"].T + state["attn.proj.bias"]
    return out


def stage_maps(
    state: dict[str, Tensor], picture: Tensor, depths: tuple[int, ...], heads: tuple[int, ...]
) -> list[Tensor]:
    """Return the maps of a picture (3, 224, 224), each normalised, as the dense-prediction form of Swin has them."""
    state = {key: value.double() for key, value in state.items()}

    def below(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}

    patches = picture.double().reshape(3, 56, 4, 56, 4).permute(1, 3, 0, 2, 4).flatten(2)
    x = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    x = normalised(x, state["patch_embed.norm.weight"], state["patch_embed.norm.bias"])
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            own = below(f"layers.{stage}.blocks.{block}")
            y = normalised(x, own["norm1.weight"], own["norm1.bias"])
            x = x + attended(y, own, heads[stage], SHIFT * (block % 2))
            y = normalised(x, own["norm2.weight"], own["norm2.bias"])
            hidden = y @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]
            hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
            x = x + hidden @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
        maps.append(normalised(x).permute(2, 0, 1))
        if stage < len(depths) - 1:
            merging = below(f"layers.{stage}.downsample")
            corners = torch.cat([x[top::2, left::2] for left in (0, 1) for top in (0, 1)], 2)
            x = normalised(corners, merging["norm.weight"], merging["norm.bias"]) @ merging["reduction.weight"].T
    return maps


@pytest.fixture
def small(monkeypatch) -> Callable[[], SwinT]:
    """Make the same network with few features."""
    embed, depths, heads = SMALL
    monkeypatch.setattr(swin, "EMBED", embed)
    monkeypatch.setattr(swin, "DEPTHS", depths)
    monkeypatch.setattr(swin, "HEADS", heads)
    monkeypatch.setattr(swin, "STAGE_CHANNELS", tuple(embed * 2**stage for stage in range(4)))
    return SwinT


def save(state: dict[str, Tensor], folder: Path) -> Path:
    file = folder / "swin_tiny_patch4_window7_224_22k.pth"
    torch.save({"model": state}, file)
    return file


def check_loaded(trunk: SwinT, size: tuple[int, tuple[int, ...], tuple[int, ...]], folder: Path) -> None:
    state = published(size)
    file = save(state, folder)
    pixels = torch.from_numpy(np.random.default_rng(1).random((3, 224, 224), np.float32))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = stage_maps(state, (pixels - mean) / std, *size[1:])
    trunk.eval()
    assert load_backbone(trunk, file).kind == "swin"
    with torch.no_grad():
        plain = trunk(((pixels - mean) / std)[None])
        load_encoder(trunk, file, HALF, HALF)
        adapted = trunk((2 * pixels - 1)[None])
    for found in (plain, adapted):
        assert [tuple(each.shape[1:]) for each in found] == [tuple(each.shape) for each in expected]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours[0].double(), theirs, atol=FLOAT32, rtol=0)


def test_a_small_one_computes_what_it_was_trained_to(small, tmp_path):
    check_loaded(small(), SMALL, tmp_path)


@pytest.mark.slow
@pytest.mark.long
def test_the_full_one_computes_what_it_was_trained_to(tmp_path):
    check_loaded(SwinT(), FULL, tmp_path)


def test_norms_of_the_dense_form_stay_as_they_start(small, tmp_path):
    trunk = small()
    load_backbone(trunk, save(published(SMALL), tmp_path), "swin")
    assert all((getattr(trunk, f"norm{stage}").weight == 1).all() for stage in range(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.2.blocks.1.attn.qkv.bias": None}, r"1 missing \(layers\.2\.blocks\.1\.attn\.qkv\.bias\)"),
        ({"layers.2.blocks.2.norm1.bias": torch.zeros(32)}, r"1 unexpected \(layers\.2\.blocks\.2\.norm1\.bias\)"),
        (
            {"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(529, 1)},
            r"1 misshapen \(layers\.0\.blocks\.0\.attn\.relative_position_bias_table",
        ),
        ({"absolute_pos_embed": torch.zeros(1, 3136, 8)}, r"1 unexpected \(absolute_pos_embed\)"),
    ],
    ids=["part", "deeper", "window of 12", "absolute positions"],
)
def test_other_swins_are_refused(small, tmp_path, change, message):
    state = {key: value for key, value in (published(SMALL) | change).items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        load_backbone(small(), save(state, tmp_path))


def test_another_trunk(tmp_path):
    with pytest.raises(CheckpointError, match=r"weights of SwinT \(swin\) don't fit ResNet50"):
        load_backbone(ResNet50(), save(published(SMALL), tmp_path))
