"""Engines of artefacts that take whole pictures at their own size, through a fake `tensorrt`: built and run."""

from dataclasses import replace

import numpy as np
import pytest

import fake_cuda
import fake_tensorrt
from fake_tensorrt_sources import write_artefact
from iqa_export.engine import EngineOptions, build_engine
from iqa_export.engine.options import parse_size, sizes_for
from iqa_runtime import Scorer
from iqa_runtime.artefacts.engine_file import SizeRange, read_engine_file
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import MapOutput, PatchPlan, TensorInput
from iqa_runtime.errors import ArtefactError, BackendError, UsageError

pytestmark = pytest.mark.usefixtures("runtime")

ROUNDING = 1e-6
"""Of a mean of float32 values up to one."""
IMAGE = TensorInput(
    name="image", shape=("batch", 3, "height", "width"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), color="RGB"
)
SMALL = EngineOptions(min_size=(8, 8), opt_size=(16, 24), max_size=(64, 80))


@pytest.fixture
def runtime(monkeypatch, fake):
    """Return a GPU that builds and runs."""
    runtime = fake_cuda.install(monkeypatch)
    fake.enqueue = runtime.enqueue
    yield runtime
    assert not +runtime.alive, "something was not freed"


@pytest.fixture
def source(tmp_path):
    return write_artefact(tmp_path / "x.onnx", inputs=(IMAGE,), patch_plan=PatchPlan(kind="whole"))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_profile_has_the_sizes_and_one_item(source, tmp_path):
    described = build_engine(source, tmp_path / "x.plan", SMALL)
    (profile,) = fake_tensorrt.plan_content(tmp_path / "x.plan")["profiles"]
    assert profile == {"image": [[1, 3, 8, 8], [1, 3, 16, 24], [1, 3, 64, 80]]}
    assert described.sizes == SizeRange(min=(8, 8), opt=(16, 24), max=(64, 80))
    assert (described.batch.min, described.batch.max) == (1, 1)
    assert "--min-size 8x8 --opt-size 16x24 --max-size 64x80" in described.rebuild_command
    assert read_engine_file(tmp_path / "x.plan") == described


def test_pictures_of_any_size_within_are_scored(source, tmp_path, runtime):
    build_engine(source, tmp_path / "x.plan", SMALL)
    pictures = [picture(height, width, height) for height, width in ((8, 80), (64, 80), (33, 41), (8, 8), (33, 41))]
    with Scorer(tmp_path / "x.plan", threads=2) as scorer:
        values = [score.value for score in scorer.score_many(pictures)]
        assert "no CUDA graphs" in scorer.provider
    assert values == [pytest.approx(pixels.mean() / 255, abs=ROUNDING) for pixels in pictures]
    assert runtime.calls["cudaGraphLaunch"] == 0


def test_pictures_outside_are_told_what_to_do(source, tmp_path):
    build_engine(source, tmp_path / "x.plan", SMALL)
    with Scorer(tmp_path / "x.plan") as scorer:
        results = list(scorer.score_many([picture(64, 81), picture(20, 20), picture(7, 20)]))
        assert [result.value is None for result in results] == [True, False, True]
        with pytest.raises(BackendError, match=r"20 x 7 pixels.*built for 8 x 8 to 80 x 64 pixels.*--max-size 64x80"):
            scorer.score(picture(7, 20))


def test_maps_have_the_size_of_their_pictures(tmp_path, fake):
    cells = (MapOutput(name="quality_map", rows=0, columns=0, cell=4),)
    plan = PatchPlan(kind="whole", multiple=4, fit="reflect")
    source = write_artefact(tmp_path / "m.onnx", inputs=(IMAGE,), patch_plan=plan, maps=cells)
    fake.shape = lambda image: (image[0], image[2] // 4, image[3] // 4)
    build_engine(source, tmp_path / "m.plan", SMALL)
    with Scorer(tmp_path / "m.plan", maps=True) as scorer:
        for pixels in (picture(30, 50), picture(64, 80), picture(9, 8)):
            area = scorer.score(pixels).map
            assert area.shape == pixels.shape[:2]
            assert np.isfinite(area).all()
        fake.shape = lambda image: (image[0], image[2] // 2, image[3] // 4)
        with pytest.raises(BackendError, match="of the engine has shape"):
            scorer.score(picture(32, 32))


def test_a_description_without_sizes_is_none_of_such_an_engine(source, tmp_path):
    described = build_engine(source, tmp_path / "x.plan", SMALL)
    for wrong in (None, SizeRange(min=(8, 8), opt=(4, 8), max=(64, 64))):
        description_path(tmp_path / "x.plan").write_bytes(replace(described, sizes=wrong).to_json())
        with pytest.raises(ArtefactError, match="sizes"):
            read_engine_file(tmp_path / "x.plan")


def test_sizes_left_open_are_those_of_the_network():
    plan = PatchPlan(kind="whole", multiple=24, fit="crop", smallest=50)
    assert sizes_for(EngineOptions(), plan) == SizeRange(min=(72, 72), opt=(768, 1008), max=(2040, 2040))
    assert sizes_for(EngineOptions(), PatchPlan(kind="whole")).min == (32, 32)
    small = sizes_for(EngineOptions(max_size=(96, 20)), PatchPlan(kind="whole"))
    assert small == SizeRange(min=(32, 20), opt=(96, 20), max=(96, 20))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"min_size": (30, 30)}, "takes 31 x 31 pixels and more"),
        ({"max_size": (62, 96)}, "multiples of 31"),
        ({"max_size": (31 * 3000, 62)}, "sides of up to 65536"),
        ({"opt_size": (31, 31), "min_size": (62, 62)}, "must not decrease"),
    ],
)
def test_sizes_that_no_picture_has_are_refused(options, complaint):
    plan = PatchPlan(kind="whole", multiple=31, fit="reflect", smallest=31)
    options = {"max_size": (620, 620)} | options
    if "multiples" in complaint:
        options["max_size"] = (62, 97)
    with pytest.raises(UsageError, match=complaint):
        sizes_for(EngineOptions(**options), plan)


def test_options_that_do_not_go_with_own_sizes(source, tmp_path):
    with pytest.raises(UsageError, match="``max_batch=4``: pictures at their own size"):
        build_engine(source, tmp_path / "x.plan", replace(SMALL, opt_batch=4, max_batch=4))
    with pytest.raises(UsageError, match="``mark_layers``"):
        build_engine(source, tmp_path / "x.plan", replace(SMALL, opt_batch=1, max_batch=1, mark_layers=True))
    crops = write_artefact(tmp_path / "crops.onnx")
    assert not read_contract(crops).has_own_size
    with pytest.raises(UsageError, match="``min_size``: the pictures or crops of this artefact have one size"):
        build_engine(crops, tmp_path / "c.plan", SMALL)


@pytest.mark.parametrize("text", ["", "768", "768x", "0x3", "7x-3", "768X1024", "1e3x4", "7777777x8"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="write height and width in pixels, as in 768x1024"):
        parse_size("min_size", text)


def test_a_size_is_height_and_width():
    assert parse_size("min_size", "768x1024") == (768, 1024)
    assert parse_size("min_size", None) is None
