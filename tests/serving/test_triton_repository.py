"""iqa-triton: what it writes, and what it leaves alone."""

from pathlib import Path

import pytest

from command_line import invoke
from described_plans import BUILT_FOR_RTX, CONTENT, described
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.files import description_path
from iqa_serving.commands.triton import main
from tiny_contract import tiny_contract


@pytest.fixture
def repository(tmp_path):
    """Return where a repository is to be."""
    return tmp_path / "models"


def write(repository, artefact, *options):
    return invoke(main, artefact, "--repository", repository, *options)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {path: (folder / path).read_bytes() for path in files(folder)}


def engine(tmp_path, **changes):
    plan = tmp_path / "x.plan"
    plan.write_bytes(CONTENT)
    description_path(plan).write_bytes(described(tiny_contract(24), **changes).to_json())
    return plan


def test_what_is_written(repository, artefact):
    path = artefact("mean")
    result = write(repository, path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [str(repository / "mean"), str(repository / "mean_crops")]
    assert files(repository) == [
        "mean/1/mean.onnx",
        "mean/1/model.py",
        "mean/config.pbtxt",
        "mean_crops/1/model.onnx",
        "mean_crops/config.pbtxt",
    ]
    for copy in ("mean/1/mean.onnx", "mean_crops/1/model.onnx"):
        assert (repository / copy).read_bytes() == path.read_bytes()


def test_a_bundled_artefact_by_its_name_with_its_reference_encoder(repository):
    assert write(repository, "cvrkd-edge-any", "--name", "any-1.0").exit_code == 0
    assert files(repository) == [
        "any-1.0/1/cvrkd-edge-any.onnx",
        "any-1.0/1/cvrkd-edge-any.reference.onnx",
        "any-1.0/1/model.py",
        "any-1.0/config.pbtxt",
        "any-1.0_crops/1/model.onnx",
        "any-1.0_crops/config.pbtxt",
        "any-1.0_reference/1/model.onnx",
        "any-1.0_reference/config.pbtxt",
    ]
    encoder = find_artefact("cvrkd-edge-any").with_suffix(".reference.onnx").read_bytes()
    assert (repository / "any-1.0_reference" / "1" / "model.onnx").read_bytes() == encoder


def test_an_engine_with_its_description(repository, tmp_path):
    plan = engine(tmp_path)
    assert write(repository, plan).exit_code == 0
    assert files(repository / "x" / "1") == ["model.py", "x.plan", "x.plan.json"]
    assert (repository / "x_crops" / "1" / "model.plan").read_bytes() == CONTENT
    for model, most in (("x", 32), ("x_crops", 8)):  # the engine was built for batches of eight
        config = (repository / model / "config.pbtxt").read_text()
        assert f"max_batch_size: {most}\n" in config
        assert "kind: KIND_GPU\n" in config
    assert 'platform: "tensorrt_plan"\n' in (repository / "x_crops" / "config.pbtxt").read_text()


def test_an_engine_that_triton_cannot_run_by_itself(repository, tmp_path):
    plan = engine(tmp_path, host=BUILT_FOR_RTX)
    result = write(repository, plan)
    assert (result.exit_code, "--no-plain" in result.stderr) == (2, True)
    assert not repository.exists()
    assert write(repository, plan, "--no-plain").exit_code == 0


def test_untrained_weights_are_said(repository, artefact):
    assert "untrained" in write(repository, artefact(trained=False)).stderr


def test_nothing_is_overwritten_unless_asked_for(repository, artefact):
    assert write(repository, artefact("mean")).exit_code == 0
    before = contents(repository)
    path = artefact("mean", above=0.5)
    result = write(repository, path)
    assert (result.exit_code, "--overwrite" in result.stderr) == (2, True)
    assert contents(repository) == before
    assert write(repository, path, "--overwrite").exit_code == 0
    assert (repository / "mean" / "1" / "mean.onnx").read_bytes() == path.read_bytes()
    assert [each.name for each in repository.iterdir() if each.name.startswith(".")] == []


def test_a_graph_of_a_former_artefact_does_not_stay_beside_another(repository, artefact):
    path = artefact("mean")
    assert write(repository, path).exit_code == 0
    assert write(repository, path, "--no-plain").exit_code == 2
    assert write(repository, path, "--no-plain", "--overwrite").exit_code == 0
    assert [each.name for each in repository.iterdir()] == ["mean"]


@pytest.mark.parametrize("stranger", ["mean/2/model.onnx", "mean/1/labels.txt", "mean/labels.txt", "mean/2"])
def test_files_of_others_stay(repository, artefact, stranger):
    path = artefact("mean")
    assert write(repository, path).exit_code == 0
    (repository / "mean" / "1" / "__pycache__").mkdir()
    (repository / "mean" / "1" / "__pycache__" / "model.cpython-311.pyc").touch()
    assert write(repository, path, "--overwrite").exit_code == 0
    if Path(stranger).suffix:
        (repository / stranger).parent.mkdir(exist_ok=True)
        (repository / stranger).touch()
    else:
        (repository / stranger).mkdir()
    before = contents(repository)
    result = write(repository, path, "--overwrite")
    assert result.exit_code == 2
    assert "not written by iqa-triton for mean" in result.stderr
    assert contents(repository) == before


def test_models_of_others_stay(repository, artefact):
    path = artefact("mean")
    theirs = repository / "mean_crops" / "config.pbtxt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('backend: "python"\n')
    assert write(repository, path, "--overwrite").exit_code == 2
    assert write(repository, path, "--overwrite", "--no-plain").exit_code == 0
    assert files(repository / "mean_crops") == ["config.pbtxt"]


def test_what_was_there_stays_where_the_disk_fails(repository, artefact, monkeypatch):
    assert write(repository, artefact("mean")).exit_code == 0
    before = contents(repository)
    rename = Path.rename

    def failing(path, target):
        if Path(target) == repository / "mean_crops" and path.parent.name != "former":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    result = write(repository, artefact("mean", above=0.5), "--overwrite")
    assert (result.exit_code, "No space left on device" in result.stderr) == (1, True)
    assert contents(repository) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "a/b"], "--name a/b"),
        (["--name", ".."], "--name .."),
        (["--crops", "six"], "--crops six"),
        (["--resize", "big"], "big"),
        (["--frame", "last"], "--frame"),
        (["--timeout", "0"], "--timeout"),
        (["--device", "npu"], "--device npu"),
        (["--max-batch-size", "0"], "--max-batch-size"),
    ],
)
def test_what_cannot_be_is_said_on_one_line(repository, artefact, options, words):
    result = write(repository, artefact(), *options)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert not repository.exists()
