"""Systems that take whole pictures, exported: parity, sizes that the graph takes, and scores at run time."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from iqa_calibration.comparing.layers import compare_layers
from iqa_calibration.graphs.runner import Runner
from iqa_export.checkpoints import KeyMap, random_checkpoint
from iqa_export.exporting import export
from iqa_export.onnx_export import to_onnx
from iqa_export.outputs import ExportError
from iqa_export.samples import sample_inputs
from iqa_runtime import Scorer
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.contract import PatchPlan, Resize
from iqa_runtime.errors import ImageError, UsageError
from small_system import request
from whole_systems import Alex, AnySize, FixedSize, Least, OneSize, OwnSize, Pooled, Undeclared

ROUNDING = 1e-5
"""Of float32 sums in another order, for scores below 1."""


def exported(tmp_path, system, task="nr", maps=False, **changes):
    checkpoint = random_checkpoint(system.network(), 0, KeyMap())
    return export(request(tmp_path, system, task, maps, checkpoint=checkpoint, **changes))


def network_of(system):
    network = system.build("plain")
    network.load_state_dict(random_checkpoint(system.network(), 0, KeyMap()).entries)
    return network


def as_tensor(pixels, system):
    pixels = pixels[..., ::-1] if system.color == "BGR" else pixels
    return torch.from_numpy((pixels / 127.5 - 1).astype(np.float32).transpose(2, 0, 1)[None].copy())


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("system", "task"), [(OwnSize(), "nr"), (AnySize(), "fr")])
def test_pictures_at_their_own_size_score_as_in_pytorch(tmp_path, system, task):
    report = exported(tmp_path, system, task, maps=True)
    assert report.passed
    assert {row.batch for row in report.parity} == {1}
    assert report.contract.has_own_size
    assert report.contract.gmac is None
    network = network_of(system)
    with Scorer(tmp_path / "small.onnx", maps=True, threads=2) as scorer, torch.no_grad():
        for height, width in ((24, 40), (37, 53), (113, 18), (300, 301)):
            pictures = [noise(height, width, seed) for seed in range(1 if task == "nr" else 2)]
            padding = ((0, -height % 4), (0, -width % 4), (0, 0)) if system.patch_plan.multiple else ((0, 0),) * 3
            inputs = [as_tensor(np.pad(picture, padding, mode="reflect"), system) for picture in pictures]
            result = scorer.score(*pictures)
            assert result.value == pytest.approx(network(*inputs)[0].item(), abs=ROUNDING)
            assert result.map.shape == (height, width)
            assert np.isfinite(result.map).all()


@pytest.mark.slow
def test_pictures_at_a_fixed_size_score_as_in_pytorch(tmp_path):
    system = FixedSize()
    report = exported(tmp_path, system, "nr", maps=True, resize=system.resize)
    assert report.passed
    assert {row.batch for row in report.parity} == {1, 4}
    network = network_of(system)
    with Scorer(tmp_path / "small.onnx") as scorer, torch.no_grad():
        picture = noise(24, 40)
        assert scorer.score(picture).value == pytest.approx(network(as_tensor(picture, system))[0].item(), abs=ROUNDING)


def test_samples_have_several_sizes_and_the_least():
    class Contract:
        task, patch_plan = "nr", Least.patch_plan

        def input(self, name):
            return Least().crop_input(name) if name == "image" else None

    sizes = [item.shape[1:] for item in sample_inputs(Contract())["image"]]
    assert (31, 31) in sizes
    assert any(height % 2 and width % 2 for height, width in sizes if height != width)
    assert any(height > width for height, width in sizes)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.slow
def test_a_least_size_is_kept_by_the_runtime(tmp_path):
    assert exported(tmp_path, Least()).passed
    with Scorer(tmp_path / "small.onnx") as scorer:
        assert scorer.score(noise(31, 31)).value is not None
        with pytest.raises(ImageError, match="takes 31 x 31 and more"):
            scorer.score(noise(30, 99))


@pytest.mark.slow
def test_a_least_size_that_is_not_declared_is_told(tmp_path):
    with pytest.raises(ExportError, match=r"pictures of 31 pixels a side and more.* says any; declare smallest=31"):
        exported(tmp_path, Undeclared())
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.slow
def test_a_network_of_one_size_is_no_network_of_any(tmp_path):
    class System(AnySize):
        network = OneSize
        map_outputs = ()

    with pytest.raises(ExportError, match="traced for a side of 65 pixels alone"):
        exported(tmp_path, System())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(31, 31), (64, 97), (224, 225)])
def test_the_graph_of_a_pair_is_dynamic(size):
    network = Alex().eval()
    inputs = [Least().crop_input(name) for name in ("image", "reference")]
    runner = Runner(to_onnx(network, inputs, ["score"], patch_plan=Least.patch_plan))
    pair = [torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    score = runner.run({"image": pair[0].numpy(), "reference": pair[1].numpy()})["score"]
    with torch.no_grad():
        np.testing.assert_allclose(score, network(*pair)[0].numpy(), rtol=0, atol=ROUNDING)


def test_own_sizes_need_a_patch_plan():
    with pytest.raises(UsageError, match="need ``patch_plan``"):
        to_onnx(Pooled(), [AnySize().crop_input("image")], ["score"])


class Squares(nn.Module):
    """Blocks of 8 x 8: wrong for every size that is no multiple."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(192, 1)

    def forward(self, image):
        items, channels, height, width = image.shape
        blocks = image.reshape(items, channels, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3, 5)
        return (self.dense(blocks.reshape(items, -1, 192)).mean((1, 2)),)


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["reflect", "crop"])
def test_multiples_reach_a_network_that_needs_them(tmp_path, fit):
    class System(AnySize):
        network = Squares
        map_outputs = ()
        patch_plan = PatchPlan(kind="whole", multiple=8, fit=fit)

    assert exported(tmp_path, System()).passed
    network = network_of(System())
    picture = noise(43, 70)
    fitted = np.pad(picture, ((0, 5), (0, 2), (0, 0)), mode="reflect") if fit == "reflect" else picture[:40, :64]
    with Scorer(tmp_path / "small.onnx") as scorer, torch.no_grad():
        expected = network(as_tensor(fitted, System()))[0].item()
        assert scorer.score(picture).value == pytest.approx(expected, abs=ROUNDING)


def test_options_that_whole_pictures_have_not_are_refused(tmp_path):
    with pytest.raises(UsageError, match="own takes pictures whole"):
        exported(tmp_path, OwnSize(), patch_plan=PatchPlan(kind="five", size=32))
    with pytest.raises(UsageError, match="fixed takes whole pictures of 40 x 24 pixels"):
        exported(tmp_path, FixedSize(), resize=Resize(to="shorter", size=24, filter="bilinear"))
    with pytest.raises(UsageError, match="no features of a reference"):
        exported(tmp_path, OwnSize(), "fr", cache_reference=True)


@pytest.mark.slow
def test_pytorch_scores_them_and_shows_their_layers(tmp_path, monkeypatch):
    system = AnySize()
    monkeypatch.setattr("iqa_export.torch_backend.find_system", lambda _: system)
    monkeypatch.setattr("iqa_export.torch_backend.all_systems", lambda: {system.name: system})
    assert exported(tmp_path, system).passed
    path = tmp_path / "small.onnx"
    pictures = [noise(height, width, 7) for height, width in ((37, 53), (64, 40))]
    with Scorer(path) as deployed, Scorer(path, backend="pytorch") as published:
        values = [[score.value for score in scorer.score_many(pictures)] for scorer in (deployed, published)]
    assert values[0] == pytest.approx(values[1], abs=ROUNDING)
    files = []
    for index, pixels in enumerate(pictures):
        files.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(files[-1])
    artefact = open_artefact(path)
    rows, _ = compare_layers(artefact, artefact, files, backends=("pytorch", None))
    assert len(rows) >= 3
    assert max(row.relative for row in rows) < ROUNDING
