import json
import shlex
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import fake_cuda
import fake_pycuda
from fake_cuda import SUCCESS, cudaError_t
from iqa_runtime.artefacts.engine_file import (
    BatchRange,
    EngineFile,
    check_host,
    load_engine,
    read_engine_file,
)
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.host_key import (
    HostKey,
    current_gpu,
    current_host,
    current_platform,
    differences,
    import_tensorrt,
)
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.artefacts.signing import check_signature, sign, signature_path
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.cuda import Gpu
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, FileError, UsageError

ORIN = Gpu(name="Orin", compute_capability=(8, 7), driver="CUDA 12.6")
H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability=(9, 0), driver="CUDA 13.0")
TURING = Gpu(name="NVIDIA GeForce RTX 2080", compute_capability=(7, 5), driver="CUDA 13.0")
JETSON = HostKey(library="tensorrt", version="10.3.0", platform="Linux aarch64", gpu=ORIN)
BUILT_FOR_RTX = HostKey(library="tensorrt_rtx", version="1.7.1.116", platform="Linux x86_64", gpu=None)
CONTENT = b"bytes of an engine"


def described(contract, **changes):
    settings = {
        "contract": contract,
        "plan": FileDigest(file="x.plan", sha256=sha256(CONTENT).hexdigest()),
        "source": FileDigest(file="x.onnx", sha256="1" * 64),
        "host": JETSON,
        "portability": "same_gpu",
        "version_compatible": False,
        "batch": BatchRange(min=1, opt=4, max=8),
        "level": 3,
        "workspace": None,
        "stripped": False,
        "refittable": False,
        "exporter": "tests",
    }
    return EngineFile(**{**settings, **changes})


@pytest.fixture
def plan(artefacts, tmp_path):
    path = tmp_path / "x.plan"
    path.write_bytes(CONTENT)
    description_path(path).write_bytes(described(artefacts.contract()).to_json())
    return path


def rewrite(plan, changes):
    fields = json.loads(description_path(plan).read_text()) | changes
    description_path(plan).write_text(json.dumps(fields))


def test_what_was_written_is_read(plan, artefacts):
    expected = described(artefacts.contract())
    assert read_engine_file(plan) == expected
    assert load_engine(plan) == (expected, CONTENT)
    assert read_contract(plan) == artefacts.contract()
    assert isinstance(expected.contract, Contract)


def test_equal_descriptions_are_equal_bytes(artefacts):
    contract = artefacts.contract()
    assert described(contract).to_json() == described(replace(contract)).to_json()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"\0", b"other bytes of one", b""])
def test_other_bytes_than_described_are_refused(plan, content):
    plan.write_bytes(content)
    with pytest.raises(ArtefactError, match="SHA-256") as caught:
        load_engine(plan)
    message = str(caught.value)
    assert sha256(content).hexdigest() in message
    assert sha256(CONTENT).hexdigest() in message
    assert "iqa-engine build x.onnx --output x.plan" in message


def test_a_missing_file_is_named(plan):
    plan.unlink()
    with pytest.raises(FileError, match=r"x\.plan: cannot read the plan"):
        load_engine(plan)
    description_path(plan).unlink()
    with pytest.raises(FileError, match=r"x\.plan\.json: .*keep the \.plan and its \.plan\.json"):
        load_engine(plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "plan schema 99, this iqa-deploy reads schema 1"),
        ({"plan": {"file": "y.plan", "sha256": "0"}}, "SHA-256 is"),
        ({"host": {"library": "tensorflow"}}, "not the description of a plan"),
        ({"portability": "all"}, "not the description of a plan"),
        ({"batch": {"min": 4, "opt": 2, "max": 8}}, "batch sizes 4, 2, 8 are no range"),
        ({"batch": {"min": 0, "opt": 2, "max": 8}}, "batch sizes 0, 2, 8 are no range"),
        ({"contract": {"schema": 99}}, "contract schema 99"),
        ({"contract": None}, "without a contract"),
        ({"plan": {"file": "folder/x.plan", "sha256": "0"}}, "'folder/x.plan' is not the name of a file"),
        ({"source": {"file": "x\x1b[2J.onnx", "sha256": "0"}}, "is not the name of a file"),
    ],
)
def test_a_wrong_description_is_one_clear_error(plan, changes, message):
    rewrite(plan, changes)
    with pytest.raises(ArtefactError, match=message):
        load_engine(plan)


def test_the_rules_of_the_contract_hold_here_too(plan):
    contract = json.loads(description_path(plan).read_text())["contract"]
    contract["score"]["high"] = contract["score"]["low"]
    rewrite(plan, {"contract": contract})
    with pytest.raises(ArtefactError, match=r"not a range - at `\$\.score`"):
        read_engine_file(plan)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 1000])
def test_what_is_no_description_is_refused(plan, text):
    description_path(plan).write_bytes(text)
    with pytest.raises(ArtefactError, match="not the description of a plan"):
        load_engine(plan)


def test_both_files_may_be_renamed_together(plan):
    other = plan.with_name("y.plan")
    description_path(plan).rename(description_path(other))
    assert load_engine(plan.rename(other))[1] == CONTENT


def test_a_reference_encoder_has_no_contract_and_names_its_scorer(tmp_path):
    path = encoder_plan(tmp_path / "x.plan")
    assert path.name == "x.reference.plan"
    digest = FileDigest(file=path.name, sha256=sha256(CONTENT).hexdigest())
    path.write_bytes(CONTENT)
    description_path(path).write_bytes(described(None, plan=digest).to_json())
    assert load_engine(path)[1] == CONTENT
    with pytest.raises(ArtefactError, match=r"the reference encoder of x\.plan"):
        read_contract(path)


def test_the_command_that_rebuilds_repeats_what_was_asked(artefacts):
    contract = artefacts.contract()
    batches = "--min-batch 1 --opt-batch 4 --max-batch 8 --builder-level 3"
    plain = f"iqa-engine build x.onnx --output x.plan --library tensorrt {batches}"
    assert described(contract).rebuild_command == plain
    more = described(contract, version_compatible=True, portability="ampere_or_later", stripped=True)
    assert more.rebuild_command == f"{plain} --version-compatible --hardware-compatible --strip"
    assert described(contract, refittable=True).rebuild_command == f"{plain} --refittable"
    limited = described(contract, workspace=2**28 + 1, stripped=True, refittable=True)
    assert limited.rebuild_command == f"{plain} --workspace 257 --strip --refittable"
    rtx = described(contract, host=BUILT_FOR_RTX, portability="ampere_or_later")
    assert rtx.rebuild_command == plain.replace("--library tensorrt", "--library tensorrt_rtx")


def test_commands_are_safe_in_a_shell_whatever_the_names(artefacts):
    names = {
        "plan": FileDigest(file="$(reboot) x.plan", sha256="0" * 64),
        "source": FileDigest(file="-x; reboot.onnx", sha256="0" * 64),
    }
    hostile = described(artefacts.contract(), **names)
    for command in (hostile.rebuild_command, hostile.marking_command, hostile.refit_command(Path("my x.plan"))):
        words = shlex.split(command)
        assert words[0] == "iqa-engine"
        assert words[2] == "./-x; reboot.onnx"
    assert shlex.split(hostile.rebuild_command)[4] == "$(reboot) x.plan"
    assert "'my x.plan' --output 'my x.full.plan'" in command


def test_commands_for_a_reference_encoder_name_its_scorer():
    encoder = described(
        None,
        plan=FileDigest(file="x.reference.plan", sha256="0" * 64),
        source=FileDigest(file="model.reference.onnx", sha256="0" * 64),
    )
    assert encoder.rebuild_command.startswith("iqa-engine build model.onnx --output x.plan ")
    refit = encoder.refit_command(Path("folder/y.reference.plan"))
    assert refit == "iqa-engine refit model.onnx y.plan --output y.full.plan"


def test_its_own_host_runs_a_plan(artefacts, plan):
    check_host(plan, described(artefacts.contract()), replace(JETSON))


def test_a_refusal_names_both_hosts_and_the_command(artefacts, plan):
    here = HostKey(library="tensorrt", version="10.13.3.9", platform="Linux x86_64", gpu=H100)
    with pytest.raises(BackendError) as caught:
        check_host(plan, described(artefacts.contract()), here)
    message = str(caught.value)
    assert "built for TensorRT 10.3.0, Linux aarch64, Orin (8.7)" in message
    assert "here: TensorRT 10.13.3.9, Linux x86_64, NVIDIA H100 80GB HBM3 (9.0)" in message
    assert "rebuild it on this host: iqa-engine build x.onnx" in message


def test_without_a_gpu_the_remedy_is_another_one(artefacts, plan):
    with pytest.raises(BackendError, match=r"no NVIDIA GPU was found here.*nvidia-smi.*iqa-run x\.onnx") as caught:
        check_host(plan, described(artefacts.contract()), replace(JETSON, gpu=None))
    assert "iqa-export" not in str(caught.value), "the plan is right"


def test_without_a_gpu_another_version_still_needs_another_plan(artefacts, plan):
    with pytest.raises(
        BackendError, match=r"the plan needs 10\.3\.0; no NVIDIA GPU.*rebuilding it.*iqa-engine build x\.onnx"
    ):
        check_host(plan, described(artefacts.contract()), replace(JETSON, version="10.3.1", gpu=None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"library": "tensorrt_rtx"}, "TensorRT built it, TensorRT-RTX is to run it"),
        ({"version": "10.3.1"}, "the plan needs 10.3.0"),
        ({"version": "10.3.0.30"}, "the plan needs 10.3.0"),
        ({"platform": "Windows aarch64"}, "it runs on Linux aarch64"),
        ({"platform": "Linux x86_64"}, "it runs on Linux aarch64"),
        ({"gpu": H100}, "here is NVIDIA H100"),
        ({"gpu": replace(ORIN, name="Orin NX")}, "here is Orin NX"),
        ({"gpu": replace(ORIN, compute_capability=(8, 6))}, r"here is Orin \(8.6\)"),
    ],
)
def test_each_difference_alone_is_enough(artefacts, plan, changes, reason):
    with pytest.raises(BackendError, match=reason):
        check_host(plan, described(artefacts.contract()), replace(JETSON, **changes))


def test_another_driver_is_no_difference(artefacts, plan):
    updated = replace(JETSON, gpu=replace(ORIN, driver="CUDA 13.9"))
    check_host(plan, described(artefacts.contract()), updated)


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.3.0", "10.3.0", True),
        ("10.3.0", "10.16.1.11", True),
        ("10.3.0", "11.4.0.106", True),
        ("10.16.1", "10.3.0", False),
        ("11.0.0", "10.16.1", False),
        ("10.3.0", "12.0", False),
    ],
)
def test_version_compatible_plans_run_later_and_one_major_on(built, here, runs):
    found = list(
        differences(replace(JETSON, version=built), replace(JETSON, version=here), "same_gpu", version_compatible=True)
    )
    assert (not found) == runs


@pytest.mark.parametrize(("gpu", "runs"), [(ORIN, True), (H100, True), (TURING, False), (None, False)])
def test_hardware_compatible_plans_run_from_ampere_on(gpu, runs):
    found = list(differences(JETSON, replace(JETSON, gpu=gpu), "ampere_or_later", version_compatible=False))
    assert (not found) == runs


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"gpu": H100}, True),
        ({"gpu": H100, "platform": "Windows x86_64"}, True),
        ({"gpu": H100, "platform": "Linux aarch64"}, False),
        ({"gpu": H100, "version": "1.8.0"}, False),
        ({"gpu": TURING}, False),
        ({}, False),
    ],
)
def test_plans_of_tensorrt_rtx_run_on_both_systems_with_one_version(changes, runs):
    here = replace(BUILT_FOR_RTX, **changes)
    found = list(differences(BUILT_FOR_RTX, here, "ampere_or_later", version_compatible=False))
    assert (not found) == runs


@pytest.fixture(params=["cuda.bindings", "pycuda"])
def cuda(monkeypatch, request):
    """An Orin, and one of the two libraries to ask it with."""
    runtime = fake_cuda.install(monkeypatch)
    properties = SimpleNamespace(name=b"Orin\0\0", major=8, minor=7)
    describe = runtime.cudaGetDeviceProperties
    monkeypatch.setattr(runtime, "cudaGetDeviceProperties", lambda device: (describe(device)[0], properties))
    monkeypatch.setattr(runtime, "cudaDriverGetVersion", lambda: (SUCCESS, 12060))
    if request.param == "pycuda":
        fake_pycuda.install(monkeypatch, runtime)
        forget(monkeypatch, "cuda.bindings")
    else:
        forget(monkeypatch, "pycuda")
    return runtime


def forget(monkeypatch, library):
    """Let imports of a CUDA library fail as if it were not installed."""
    names = ("cuda", "cuda.bindings", "cuda.bindings.runtime") if library == "cuda.bindings" else ("pycuda",)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("cuda")
def test_the_gpu_is_described():
    assert current_gpu() == ORIN
    assert current_gpu(1) is None


def test_without_a_device_there_is_no_gpu(cuda):
    cuda.devices = 0
    assert current_gpu() is None


def test_without_a_driver_there_is_no_gpu(cuda):
    cuda.fail("cudaGetDeviceCount", cudaError_t.cudaErrorInsufficientDriver)
    assert current_gpu() is None


def test_where_the_library_does_not_find_the_driver_there_is_no_gpu(monkeypatch):
    def missing():
        raise RuntimeError("no libcuda.so.1")

    monkeypatch.setattr(fake_cuda.install(monkeypatch), "cudaGetDeviceCount", missing)
    assert current_gpu() is None


def test_without_a_cuda_library_there_is_no_gpu(monkeypatch):
    for library in ("cuda.bindings", "pycuda"):
        forget(monkeypatch, library)
    assert current_gpu() is None


def test_a_gpu_that_cannot_be_asked_is_an_error(cuda):
    cuda.fail("cudaGetDeviceProperties", cudaError_t.cudaErrorInvalidValue)
    with pytest.raises(BackendError, match=r"device 'cuda:0': .*cudaErrorInvalidValue.*nvidia-smi"):
        current_gpu()


def test_describing_a_gpu_takes_nothing_of_it(cuda):
    current_gpu()
    assert not +cuda.alive
    assert cuda.calls["cudaSetDevice"] == 0


def test_windows_calls_its_processors_otherwise(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert current_platform().endswith(" x86_64")


@pytest.mark.usefixtures("cuda")
def test_the_key_of_this_host(artefacts, monkeypatch, plan):
    module = ModuleType("tensorrt")
    module.__version__, module.Runtime = "10.3.0", object
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    host = current_host("tensorrt")
    assert host == replace(JETSON, platform=current_platform())
    check_host(plan, described(artefacts.contract(), host=host), host)


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DependencyError, match=r"TensorRT is not installed; pip install"):
        import_tensorrt("tensorrt")


def test_half_a_library_is_told_from_none(monkeypatch, tmp_path):
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Set first, so that what the import leaves there goes with the test.
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(DependencyError, match=r"libnvinfer.so.10.*install its libraries too"):
        import_tensorrt("tensorrt")
    (package / "__init__.py").write_text("")
    with pytest.raises(DependencyError, match="installed in part only"):
        import_tensorrt("tensorrt")


@pytest.fixture
def keys(tmp_path):
    """Private and public key, another public one, and public key of another kind."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

    paths = {}
    kinds = {"own": ed25519.Ed25519PrivateKey, "other": ed25519.Ed25519PrivateKey, "long": ed448.Ed448PrivateKey}
    for name, kind in kinds.items():
        private = kind.generate()
        pem = serialization.Encoding.PEM
        secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        for suffix, content in (("pem", secret), ("pub.pem", public)):
            paths[f"{name}.{suffix}"] = tmp_path / f"{name}.{suffix}"
            paths[f"{name}.{suffix}"].write_bytes(content)
    return paths


@pytest.fixture
def signed(plan, keys):
    signature_path(description_path(plan)).write_bytes(sign(description_path(plan).read_bytes(), keys["own.pem"]))
    return plan


def test_a_signed_plan_is_loaded_by_who_trusts_the_key(signed, keys):
    assert load_engine(signed, trust=keys["own.pub.pem"])[1] == CONTENT


def test_openssl_finds_the_signature_right(signed, keys):
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys["own.pub.pem"], "-rawin"]
    command += ["-in", description_path(signed), "-sigfile", signature_path(description_path(signed))]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert "Signature Verified Successfully" in finished.stdout


def test_what_another_key_signed_is_refused(signed, keys):
    with pytest.raises(ArtefactError, match="not the signature of"):
        load_engine(signed, trust=keys["other.pub.pem"])


def test_a_description_changed_after_signing_is_refused(signed, keys):
    signed.write_bytes(b"another engine")
    rewrite(signed, {"plan": {"file": "x.plan", "sha256": sha256(b"another engine").hexdigest()}})
    assert load_engine(signed)[1] == b"another engine"  # the digest proves integrity, not origin
    with pytest.raises(ArtefactError, match="not the signature of"):
        load_engine(signed, trust=keys["own.pub.pem"])


def test_an_unsigned_plan_is_not_trusted(plan, keys):
    with pytest.raises(ArtefactError, match="nothing says that"):
        load_engine(plan, trust=keys["own.pub.pem"])


@pytest.mark.parametrize("name", ["own.pem", "long.pub.pem"])
def test_a_key_of_another_kind_cannot_be_trusted(signed, keys, name):
    with pytest.raises(UsageError, match="make one with: openssl pkey"):
        load_engine(signed, trust=keys[name])


@pytest.mark.parametrize("name", ["own.pub.pem", "long.pem"])
def test_a_key_of_another_kind_cannot_sign(keys, name):
    with pytest.raises(UsageError, match="make one with: openssl genpkey"):
        sign(b"text", keys[name])


@pytest.mark.usefixtures("keys")
def test_a_missing_key_is_a_file_error(plan, tmp_path):
    with pytest.raises(FileError, match="cannot read the key"):
        sign(b"text", tmp_path / "none.pem")
    with pytest.raises(FileError, match="cannot read the key"):
        load_engine(plan, trust=tmp_path / "none.pem")


def test_without_the_library_the_error_names_it(monkeypatch, plan, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(DependencyError, match=r"pip install .iqa-deploy\[sign\]"):
        check_signature(description_path(plan), b"", tmp_path / "key.pem")
