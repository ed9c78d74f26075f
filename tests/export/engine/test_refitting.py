"""Putting weights into plans, through a fake `tensorrt` with the names and signatures of the real one."""

import sys

import numpy as np
import pytest

import fake_tensorrt
from fake_tensorrt_sources import SIDE, write_artefact, write_cached
from iqa_export.engine import EngineOptions, build_engine, refit_engine
from iqa_runtime.artefacts.engine_file import load_engine, read_engine_file
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import ArtefactError, BackendError, FileError, UsageError
from iqa_runtime.scorer import Scorer
from signing_keys import write_key_pair
from tiny_contract import tiny_contract

pytestmark = pytest.mark.usefixtures("gpu", "fake")

REFITTABLE = EngineOptions(refittable=True)

ROUNDING = 1e-6
"""float32 rounding of a mean of values up to one."""


@pytest.fixture
def source(tmp_path):
    return write_artefact(tmp_path / "x.onnx")


@pytest.fixture
def cached(tmp_path):
    return write_cached(tmp_path / "x.onnx")


@pytest.fixture
def tuned(tmp_path):
    """Other weights for `cached`, in the scorer and in the encoder."""
    return write_cached(tmp_path / "tuned.onnx", weight=2.0, bias=0.5)


def weights_of(plan):
    return fake_tensorrt.plan_content(plan)["weights"]


def pair(plan):
    return [load_engine(path) for path in (encoder_plan(plan), plan)]


def test_a_stripped_plan_gets_its_weights_back(source, tmp_path):
    stripped, output = tmp_path / "x.plan", tmp_path / "full.plan"
    build_engine(source, stripped, EngineOptions(strip=True))
    assert weights_of(stripped) is None
    described = refit_engine(stripped, source, output)
    assert weights_of(output) is not None
    assert load_engine(output)[0] == described
    assert (described.stripped, described.refittable) == (False, False)
    assert described.source == read_engine_file(stripped).source


def test_a_stripped_plan_takes_no_other_weights(source, tmp_path):
    build_engine(source, tmp_path / "x.plan", EngineOptions(strip=True))
    other = write_artefact(tmp_path / "other.onnx", weight=2.0)
    with pytest.raises(UsageError, match="takes back no other weights"):
        refit_engine(tmp_path / "x.plan", other, tmp_path / "y.plan")


def test_a_refittable_plan_takes_other_weights(source, tmp_path):
    plan, output = tmp_path / "x.plan", tmp_path / "y.plan"
    build_engine(source, plan, REFITTABLE)
    other = write_artefact(tmp_path / "other.onnx", weight=2.0)
    described = refit_engine(plan, other, output)
    assert weights_of(output) != weights_of(plan)
    assert described.source.file == "other.onnx"
    assert described.contract == read_contract(other)


def test_a_plan_built_for_one_set_of_weights_is_not_refitted(source, tmp_path):
    build_engine(source, tmp_path / "x.plan", EngineOptions())
    with pytest.raises(UsageError, match=r"takes no other weights; build it so: iqa-engine build x\.onnx .* --refit"):
        refit_engine(tmp_path / "x.plan", source, tmp_path / "y.plan")


def test_weights_of_another_graph_are_refused(source, tmp_path):
    build_engine(source, tmp_path / "x.plan", REFITTABLE)
    other = write_artefact(tmp_path / "o.onnx", variant="other", inputs=tiny_contract(SIDE, mean=0.25).inputs)
    with pytest.raises(UsageError, match=r"not the graph of .*: another variant, inputs"):
        refit_engine(tmp_path / "x.plan", other, tmp_path / "y.plan")


def test_a_plan_of_another_host_is_not_refitted(gpu, source, tmp_path):
    build_engine(source, tmp_path / "x.plan", REFITTABLE)
    gpu.name = b"Thor"
    with pytest.raises(BackendError, match=r"it runs on Orin \(8.7\), here is Thor \(8.7\)"):
        refit_engine(tmp_path / "x.plan", source, tmp_path / "y.plan")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("deserialize returns None", "cannot load it .*rebuild it: iqa-engine build"),
        ("refit fails", "cannot put its weights into .*missing: none is missing"),
        ("no GPU", "cannot start here"),
    ],
)
def test_failures_of_refitting_are_clear(fake, source, tmp_path, fault, message):
    build_engine(source, tmp_path / "x.plan", REFITTABLE)
    fake.faults.add(fault)
    with pytest.raises(BackendError, match=message):
        refit_engine(tmp_path / "x.plan", source, tmp_path / "y.plan")
    assert not (tmp_path / "y.plan").exists()


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ("x.plan", UsageError, "would overwrite the plan that takes the weights"),
        ("y.onnx", UsageError, r"must end in \.plan"),
        ("absent/y.plan", FileError, "no such folder"),
    ],
)
def test_names_that_a_refitted_plan_cannot_have(source, tmp_path, output, error, message):
    plan = tmp_path / "x.plan"
    build_engine(source, plan, REFITTABLE)
    before = plan.read_bytes()
    with pytest.raises(error, match=message):
        refit_engine(plan, source, tmp_path / output)
    assert plan.read_bytes() == before


def test_plans_of_tensorrt_rtx_take_no_weights(monkeypatch, source, tmp_path):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    rtx = fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")
    build_engine(source, tmp_path / "x.plan", EngineOptions())
    with pytest.raises(UsageError, match="TensorRT-RTX built it, whose plans take no other weights"):
        refit_engine(tmp_path / "x.plan", source, tmp_path / "y.plan")
    assert rtx.deserialised == 0


def test_without_a_gpu_nothing_is_refitted(fake, monkeypatch, source, tmp_path):
    build_engine(source, tmp_path / "x.plan", REFITTABLE)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendError, match="no NVIDIA GPU was found here"):
        refit_engine(tmp_path / "x.plan", source, tmp_path / "y.plan")
    assert fake.deserialised == 0


def test_a_signature_on_a_refitted_plan(source, tmp_path):
    private, public = write_key_pair(tmp_path)
    output = tmp_path / "y.plan"
    build_engine(source, tmp_path / "x.plan", REFITTABLE)
    refit_engine(tmp_path / "x.plan", source, output, sign=private)
    assert load_engine(output, trust=public)


def test_a_reference_encoder_gets_its_weights_too(cached, tuned, tmp_path):
    plan, output = tmp_path / "x.plan", tmp_path / "y.plan"
    build_engine(cached, plan, EngineOptions(refittable=True, max_batch=16))
    described = refit_engine(plan, tuned, output)
    (encoder, _), (scorer, _) = pair(output)
    assert scorer == described
    assert encoder.contract is None
    assert scorer.contract.reference_encoder == encoder.plan
    assert encoder.plan.file == "y.reference.plan"
    assert scorer.source == FileDigest.of_file(tuned)
    assert encoder.source == FileDigest.of_file(tmp_path / "tuned.reference.onnx")
    assert encoder.batch.max == scorer.batch.max == 16
    for old, new in ((plan, output), (encoder_plan(plan), encoder_plan(output))):
        assert weights_of(old) != weights_of(new)
        assert not read_engine_file(new).refittable


@pytest.mark.parametrize("refitted", [False, True])
def test_a_pair_scores(fake, cached, tuned, tmp_path, refitted):
    fake.enqueue = sys.modules["cuda.bindings.runtime"].enqueue
    plan = tmp_path / "x.plan"
    build_engine(cached, plan, REFITTABLE)
    if refitted:
        refit_engine(plan, tuned, tmp_path / "y.plan")
        plan = tmp_path / "y.plan"
    image, reference = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (200, 100))
    with Scorer(plan, threads=1, crops="center") as scorer:
        # Engines of the fake say the mean of the first input less that of the other, here (x / 255 - 0.5) / 0.5.
        assert scorer.score(image, reference).value == pytest.approx(2 * (200 - 100) / 255, abs=ROUNDING)


def test_a_stripped_pair_gets_its_weights_back(cached, tmp_path):
    stripped, output = tmp_path / "x.plan", tmp_path / "full.plan"
    build_engine(cached, stripped, EngineOptions(strip=True))
    refit_engine(stripped, cached, output)
    for old, new in ((stripped, output), (encoder_plan(stripped), encoder_plan(output))):
        assert weights_of(old) is None
        assert weights_of(new) is not None
        assert read_engine_file(new).source == read_engine_file(old).source


def test_both_of_a_refitted_pair_are_signed(cached, tuned, tmp_path):
    private, public = write_key_pair(tmp_path)
    output = tmp_path / "y.plan"
    build_engine(cached, tmp_path / "x.plan", REFITTABLE)
    refit_engine(tmp_path / "x.plan", tuned, output, sign=private)
    for path in (output, encoder_plan(output)):
        assert load_engine(path, trust=public)
    refit_engine(tmp_path / "x.plan", tuned, output)
    assert not list(tmp_path.glob("*.sig"))


def test_where_one_of_a_pair_fails_neither_is_written(fake, cached, tuned, tmp_path):
    build_engine(cached, tmp_path / "x.plan", REFITTABLE)
    before = sorted(tmp_path.iterdir())
    fake.unsupported.add("Mul")  # which the scorer has and the encoder, refitted before it, has not
    with pytest.raises(BackendError, match=r"tuned\.onnx: TensorRT cannot take its weights"):
        refit_engine(tmp_path / "x.plan", tuned, tmp_path / "y.plan")
    assert fake.deserialised == 2
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("blocked", ["y.reference.plan.json", "y.plan", "y.plan.json"])
def test_where_one_of_a_pair_cannot_be_written_neither_is(cached, tuned, tmp_path, blocked):
    build_engine(cached, tmp_path / "x.plan", REFITTABLE)
    (tmp_path / blocked).mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileError, match="cannot write there"):
        refit_engine(tmp_path / "x.plan", tuned, tmp_path / "y.plan")
    assert sorted(tmp_path.iterdir()) == before


def test_a_pair_that_was_there_stays_where_the_new_one_cannot_be_written(cached, tuned, tmp_path):
    private, public = write_key_pair(tmp_path)
    plan, output = tmp_path / "x.plan", tmp_path / "y.plan"
    build_engine(cached, plan, REFITTABLE)
    refit_engine(plan, cached, output, sign=private)
    before = pair(output)
    description = description_path(output)
    text = description.read_bytes()
    description.unlink()
    description.mkdir()
    with pytest.raises(FileError, match="cannot write there"):
        refit_engine(plan, tuned, output)
    description.rmdir()
    description.write_bytes(text)
    assert pair(output) == before
    for path in (output, encoder_plan(output)):
        assert load_engine(path, trust=public)


def test_an_encoder_of_another_build_is_refused(cached, tuned, tmp_path):
    plan, other = tmp_path / "x.plan", tmp_path / "tuned.plan"
    build_engine(cached, plan, REFITTABLE)
    build_engine(tuned, other, REFITTABLE)
    encoder_plan(other).replace(encoder_plan(plan))
    description_path(encoder_plan(other)).replace(description_path(encoder_plan(plan)))
    with pytest.raises(ArtefactError, match=r"x\.reference\.plan: .*; use the two engines of one build"):
        refit_engine(plan, tuned, tmp_path / "y.plan")


def test_a_missing_encoder_and_one_of_another_export_are_refused(cached, tuned, tmp_path):
    plan = tmp_path / "x.plan"
    build_engine(cached, plan, REFITTABLE)
    description_path(encoder_plan(plan)).unlink()
    with pytest.raises(FileError, match=r"cannot read the description of x\.reference\.plan"):
        refit_engine(plan, tuned, tmp_path / "y.plan")
    (tmp_path / "x.reference.onnx").replace(tmp_path / "tuned.reference.onnx")
    with pytest.raises(ArtefactError, match="use the two files of one export"):
        refit_engine(plan, tuned, tmp_path / "y.plan")


def test_only_the_scorer_is_named(cached, tmp_path):
    plan = tmp_path / "x.plan"
    build_engine(cached, plan, REFITTABLE)
    with pytest.raises(UsageError, match="the reference encoder of another plan; give that plan"):
        refit_engine(encoder_plan(plan), write_artefact(tmp_path / "n.onnx"), tmp_path / "y.plan")
    with pytest.raises(ArtefactError, match=r"the reference encoder of x\.onnx"):
        refit_engine(plan, tmp_path / "x.reference.onnx", tmp_path / "y.plan")


def test_a_pair_takes_no_weights_of_an_artefact_without_a_cached_reference(cached, tmp_path):
    build_engine(cached, tmp_path / "x.plan", REFITTABLE)
    other = write_artefact(tmp_path / "n.onnx")
    with pytest.raises(UsageError, match=r"not the graph of .*: another task, inputs"):
        refit_engine(tmp_path / "x.plan", other, tmp_path / "y.plan")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.reference.plan", "would overwrite the reference encoder of the plan that takes the weights"),
        ("linked.plan", "would overwrite the reference encoder of the artefact that gives them"),
    ],
)
def test_the_encoders_that_are_read_are_not_written_over(cached, tuned, tmp_path, output, message):
    build_engine(cached, tmp_path / "x.plan", REFITTABLE)
    (tmp_path / "linked.reference.plan").hardlink_to(tmp_path / "tuned.reference.onnx")
    with pytest.raises(UsageError, match=message):
        refit_engine(tmp_path / "x.plan", tuned, tmp_path / output)
