"""Engines as artefacts, from the file to the score: the stand-ins for TensorRT and CUDA under the real pipeline."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import invoke
from fake_cuda import FakeCudaRuntime
from fake_engines import describe, stand_ins
from fake_tensorrt_types import MAGIC, DataType
from iqa_runtime.artefacts.engine_file import BatchRange
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.artefacts.signing import sign, signature_path
from iqa_runtime.backends.tensorrt_worker import Worker
from iqa_runtime.benchmark.measuring import measure_artefact
from iqa_runtime.commands.check import check_installation
from iqa_runtime.commands.run import main
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import ArtefactError, BackendError, UsageError
from iqa_runtime.scorer import Scorer
from signing_keys import write_key_pair

BATCH = BatchRange(min=1, opt=4, max=8)
DTYPES = {"float32": DataType.FLOAT, "float16": DataType.HALF}

pytestmark = pytest.mark.usefixtures("gpu")

EXACT = 1e-6
"""float32 rounding of a mean of values up to one."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCudaRuntime]:
    with stand_ins(monkeypatch) as (_, runtime):
        yield runtime


def engine(source: Path) -> Path:
    """Write the stand-in for an engine of an artefact: it says the mean of the image less that of the reference."""
    contract = read_contract(source)
    outputs: dict[str, tuple[int, ...]] = {contract.score.name: ()}
    outputs |= {output.name: (output.rows, output.columns) for output in contract.maps}
    inputs = {tensor.name: (DTYPES[tensor.dtype], tensor.shape[1:]) for tensor in contract.inputs}
    plan = source.with_suffix(".plan")
    _write(plan, inputs, outputs)
    if contract.reference_encoder is not None:
        contract = replace(contract, reference_encoder=FileDigest.of_file(encoder_engine(source)))
    describe(plan, contract=contract, source=FileDigest.of_file(source), batch=BATCH)
    return plan


def encoder_engine(source: Path) -> Path:
    contract = read_contract(source)
    features, image = contract.input("reference_features"), contract.input("image")
    assert features is not None
    assert image is not None
    plan = source.with_suffix(".reference.plan")
    _write(plan, {"reference": (DataType.FLOAT, image.shape[1:])}, {"reference_features": features.shape[1:]})
    describe(plan, source=FileDigest.of_file(source.with_suffix(".reference.onnx")), batch=BATCH)
    return plan


def _write(plan: Path, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    sizes = (BATCH.min, BATCH.opt, BATCH.max)
    content = {
        "version": sys.modules["tensorrt"].__version__,
        "inputs": [[name, int(dtype), [-1, *shape]] for name, (dtype, shape) in inputs.items()],
        "outputs": [[name, int(DataType.FLOAT), [-1, *shape]] for name, shape in outputs.items()],
        "flags": [],
        "layers": 1,
        "profiles": [{name: [[size, *shape] for size in sizes] for name, (_, shape) in inputs.items()}],
        "weights": sha256(b"some").hexdigest(),
    }
    plan.write_bytes(MAGIC + json.dumps(content).encode())


@dataclass(frozen=True)
class Signed:
    """An engine, the public key of who signed it, and another one."""

    plan: Path
    own: Path
    other: Path


@pytest.fixture
def signed(artefacts: Any, tmp_path: Path) -> Signed:
    folders = tmp_path / "own", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    (private, own), (_, other) = map(write_key_pair, folders)
    plan = engine(artefacts.mean())
    description = description_path(plan)
    signature_path(description).write_bytes(sign(description.read_bytes(), private))
    return Signed(plan, own, other)


def test_an_engine_scores_as_its_onnx_file_does(artefacts: Any, noise: Callable[..., NDArray[np.uint8]]) -> None:
    pytest.importorskip("onnxruntime")
    source = artefacts.mean()
    images = [noise(70, 90, seed) for seed in range(5)]
    with Scorer(source, threads=1) as scorer:
        expected = [result.value for result in scorer.score_many(images)]
    with Scorer(engine(source), threads=1) as scorer:
        assert (scorer.device, scorer.backend_name, scorer.batch_size) == ("cuda", "tensorrt", 2 * BATCH.opt)
        np.testing.assert_allclose([result.value for result in scorer.score_many(images)], expected, rtol=EXACT)
        assert scorer.score(images[0]).backend.startswith("tensorrt Fake GPU")


def test_scores_have_the_same_bits_whatever_the_batch(artefacts: Any, noise: Callable[..., NDArray[np.uint8]]) -> None:
    plan = engine(artefacts.mean(dtype="float16"))
    images = [noise(70, 90, seed) for seed in range(4)]
    runs = []
    for batch_size in (1, 3, 64):
        with Scorer(plan, batch_size=batch_size, threads=1) as scorer:
            runs.append([result.value for result in scorer.score_many(images)])
    assert runs[0] == runs[1] == runs[2]


def test_cached_references_have_an_engine_of_their_own(artefacts: Any, noise: Callable[..., NDArray[np.uint8]]) -> None:
    plan = engine(artefacts.cached())
    image, reference = noise(40, 40, 0), noise(40, 40, 1)
    with Scorer(plan, threads=1, crops="center") as scorer:
        value = scorer.score(image, reference).value
    crops = [picture[4:36, 4:36].mean() / 255 for picture in (image, reference)]
    # The stand-in's features are the mean of the reference crop, everywhere.
    assert value == pytest.approx(crops[0] - crops[1], abs=EXACT)


def test_an_encoder_of_another_build_is_refused(artefacts: Any) -> None:
    plan = engine(artefacts.cached())
    description = description_path(plan)
    content = json.loads(description.read_text(encoding="utf-8"))
    content["contract"]["reference_encoder"]["sha256"] = "0" * 64
    description.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"cached\.plan was made with 0{64}; use the two engines of one build"):
        Scorer(plan)


def test_only_what_a_trusted_key_signed_is_run(
    signed: Signed, artefacts: Any, noise: Callable[..., NDArray[np.uint8]]
) -> None:
    image = noise(40, 40)
    corners = ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4))  # and the middle; crops have 32 pixels a side
    expected = np.mean([image[top : top + 32, left : left + 32] / 255 for top, left in corners])
    with Scorer(signed.plan, threads=1, trust=signed.own) as scorer:
        assert scorer.score(image).value == pytest.approx(expected, rel=EXACT)
    with pytest.raises(ArtefactError, match="not the signature of"):
        Scorer(signed.plan, trust=signed.other)
    result = invoke(main, str(signed.plan), "any.png", "--trust", str(signed.other))
    assert result.exit_code == 2
    assert "not the signature of" in result.stderr
    with pytest.raises(UsageError, match="only engines"):
        Scorer(artefacts.mean(), trust=signed.own)


def test_the_suffix_of_a_signed_engine_may_be_in_capitals(signed: Signed) -> None:
    plan = signed.plan.rename(signed.plan.with_suffix(".PLAN"))
    for suffix in (".json", ".json.sig"):
        beside = Path(f"{signed.plan}{suffix}")
        beside.rename(f"{plan}{suffix}")
    Scorer(plan, threads=1, trust=signed.own).close()


def test_check_and_info_trust_no_other_key_either(signed: Signed) -> None:
    for option, code in (("--info", 2), ("--check", 1)):
        refused = invoke(main, str(signed.plan), option, "--trust", str(signed.other))
        assert refused.exit_code == code
        assert "not the signature of" in refused.output
    shown = invoke(main, str(signed.plan), "--info", "--trust", str(signed.own))
    assert shown.exit_code == 0
    assert "score.higher_is_better" in shown.stdout
    checks = {check.name: check for check in check_installation(signed.plan, trust=signed.own)}
    assert checks["artefact"].detail.endswith(f", signed with the key of {signed.own}")
    assert checks["score"].passed


def test_check_and_info_refuse_a_key_where_nothing_is_signed(signed: Signed, artefacts: Any) -> None:
    source = str(artefacts.mean())
    for option, code in (("--info", 2), ("--check", 1)):
        result = invoke(main, source, option, "--trust", str(signed.own))
        assert result.exit_code == code
        assert "only engines (.plan) are signed" in result.output


def test_a_contract_that_the_key_did_not_sign_is_not_believed(signed: Signed) -> None:
    description = description_path(signed.plan)
    description.write_bytes(description.read_bytes().replace(b'"higher_is_better": true', b'"higher_is_better": false'))
    assert not read_contract(signed.plan).score.higher_is_better
    with pytest.raises(ArtefactError, match="not the signature of"):
        read_contract(signed.plan, trust=signed.own)


def test_an_output_that_is_not_finite_is_the_error_of_its_image(
    artefacts: Any, noise: Callable[..., NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Worker.run

    def run_wrongly(worker: Worker, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        results = run(worker, inputs, outputs)
        for values in results:
            values[~inputs["image"].any(axis=(1, 2, 3))] = np.nan
        return results

    monkeypatch.setattr(Worker, "run", run_wrongly)
    black = np.zeros((32, 32, 3), np.uint8)
    with Scorer(engine(artefacts.mean()), threads=1, crops="center") as scorer:
        results = list(scorer.score_many([noise(32, 32), black, noise(32, 32, 1)]))
    assert [result.error is None for result in results] == [True, False, True]
    assert "not finite" in str(results[1].error)


def test_a_device_that_is_no_gpu_is_refused(artefacts: Any) -> None:
    with pytest.raises(UsageError, match="cuda or cuda:N"):
        Scorer(engine(artefacts.mean()), device="cpu")


def test_without_a_gpu_there_is_one_error_and_exit_code_1(gpu: FakeCudaRuntime, artefacts: Any) -> None:
    plan = engine(artefacts.mean())
    gpu.devices = 0
    with pytest.raises(BackendError, match=r"no NVIDIA GPU was found here.*iqa-run mean\.onnx"):
        Scorer(plan)
    result = invoke(main, str(plan), "any.png")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "nvidia-smi" in result.stderr


def test_the_contract_of_an_engine_is_shown_without_gpu_or_library(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = artefacts.mean()
    plan = engine(source)
    for library in ("tensorrt", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, library, None)
    result = invoke(main, str(plan), "--info")
    assert result.exit_code == 0, result.output
    assert "score.higher_is_better" in result.stdout
    assert read_contract(plan) == read_contract(source)


@pytest.mark.parametrize("name", ["cached.plan.json", "cached.reference.plan", "cached.reference.plan.json"])
def test_no_file_of_an_engine_is_overwritten(
    artefacts: Any,
    noise: Callable[..., NDArray[np.uint8]],
    save_png: Callable[[Path, NDArray[np.uint8]], Path],
    tmp_path: Path,
    name: str,
) -> None:
    plan = engine(artefacts.cached())
    picture = str(save_png(tmp_path / "picture.png", noise(40, 40)))
    target = plan.with_name(name)
    before = target.read_bytes()
    result = invoke(main, str(plan), picture, "--reference", picture, "--output", str(target))
    assert result.exit_code == 2
    assert "would overwrite" in result.stderr
    assert target.read_bytes() == before


def test_an_installation_is_checked_with_an_engine(artefacts: Any) -> None:
    checks = list(check_installation(engine(artefacts.mean())))
    failed = [check for check in checks if not check.passed and check.name != "libraries"]
    assert not failed
    assert any("device cuda, runs on Fake GPU" in check.detail for check in checks)


def test_a_bench_splits_copies_and_computation(artefacts: Any) -> None:
    report = measure_artefact(
        engine(artefacts.mean()), seconds=0.01, threads=1, batch_sizes=(1, 8), peak=100.0, bandwidth=10.0
    )
    names = [stage.name for stage in report.stages]
    assert names == ["image", "decode", "patches", "model", "host_to_device", "compute", "device_to_host"]
    assert report.stages[-1].times.p50 == 1.0, "a tick of the stand-in's clock"
    assert (report.items_per_run, report.device) == (BATCH.opt, "cuda")
    assert (report.machine.peak, report.machine.bandwidth) == (100.0, 10.0)
