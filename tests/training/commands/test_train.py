"""iqa-train as a user types it."""

import csv
import shutil
from functools import partial
from pathlib import Path

import cv2
import pytest
import safetensors
import torch

from command_line import invoke
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.systems.yoto import YotoSystem
from iqa_training.commands import train as cli

PHOTOGRAPHS = Path(__file__).parents[3] / "calibration" / "iqa_calibration" / "photographs"
CONFIG = """
seed: 1
synthetic: {tile: 256, tiles: 2, versions: 1, shortest: [260, 300], metrics: [gmsd], seed: 1}
loop: {epochs: 1, batch: 2}
recipe: {variant: edge}
"""


@pytest.fixture
def run():
    """Run the command in this process; return exit code, stdout and stderr."""
    return partial(invoke, cli.main)


@pytest.fixture
def config(tmp_path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("dogs", "fig"):
        picture = cv2.imread(str(PHOTOGRAPHS / f"{name}.jpg"))
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(picture, (400, 300), interpolation=cv2.INTER_AREA))
    return folder


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    for option in ("--config", "--data", "--out", "--weights", "--cache", "--device"):
        assert option in out


@pytest.mark.parametrize("missing", ["--config", "--data", "--out"])
def test_options_that_are_needed(run, tmp_path, config, missing):
    options = {"--config": config, "--data": tmp_path, "--out": tmp_path / "out"}
    given = [part for name, value in options.items() if name != missing for part in (name, value)]
    code, out, err = run("yoto", *given)
    assert (code, out) == (2, "")
    assert missing in err


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("yotto", (), "no recipe 'yotto'; did you mean yoto?"),
        ("yoto", ("--weights", "teacher=x.pth"), "recipe yoto: no weights teacher are of use; there is encoder"),
        ("yoto", ("--weights", "x.pth"), "--weights x.pth: give each role once, as encoder=FILE"),
        ("yoto", ("--weights", "=x.pth"), "--weights =x.pth: give each role once"),
        ("yoto", ("--weights", "encoder="), "--weights encoder=: give each role once"),
        ("yoto", ("--weights", "encoder=a", "--weights", "encoder=b"), "--weights encoder=b: give each role once"),
        ("yoto", ("--device", "tpu"), "--device tpu: there is cpu and cuda"),
        ("yoto", ("--threads", "0"), "--threads"),
        ("dri-quality", (), "recipe dri-quality: "),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(run, tmp_path, config, photographs, recipe, options, message):
    if recipe == "dri-quality":
        config.write_text("{}")
    code, out, err = run(recipe, "--config", config, "--data", photographs, "--out", tmp_path / "out", *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("iqa-train: ")
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run, tmp_path, config, photographs):
    code, _, err = run("yoto", "--config", config, "--data", photographs, "--out", tmp_path / "o", "--device", "cuda")
    assert code == 2
    assert "--device cuda: PyTorch finds no GPU" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loop: {epoch: 1}", "unknown field `epoch` - at `$.loop`"),
        ("recipe: {variant: swin_b}", "recipe yoto: Invalid enum value 'swin_b'"),
        ("dataset: imagenet", "imagenet"),
        ("synthetic: {metrics: [brisque]}", "metrics: brisque; there is"),
        (
            CONFIG.replace("batch: 2", "batch: 99"),
            "4 training pictures are fewer than a batch of 99",
        ),
        (
            CONFIG.replace("seed: 1}", "seed: 0}"),
            "validation pictures: 4, of 1 labels; a rank correlation needs two at least",
        ),
    ],
)
def test_settings_that_cannot_be(run, tmp_path, config, photographs, text, message):
    config.write_text(text)
    code, out, err = run("yoto", "--config", config, "--data", photographs, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--config": "none.yaml"}, "none.yaml: cannot be read (No such file or directory); check --config"),
        ({"--data": "empty"}, "empty: 0 photographs there"),
        ({"--weights": "encoder=none.pth"}, "none.pth: cannot read the checkpoint"),
        ({"--out": "run.yaml"}, "run.yaml: cannot be made (File exists); choose another --out"),
    ],
)
def test_files_that_cannot_be_used_have_exit_code_1(run, tmp_path, config, photographs, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    options = {"--config": config, "--data": photographs, "--out": tmp_path / "out"} | change
    code, out, err = run("yoto", *(part for option in options.items() for part in option))
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_run_resumed_and_its_checkpoint(run, tmp_path, config, photographs):
    out, cache = tmp_path / "out", tmp_path / "cache"
    arguments = ("yoto", "--config", config, "--data", photographs, "--out", out, "--cache", cache, "--device", "cpu")
    code, stdout, err = run(*arguments, "--licence", "CC0-1.0", "--threads", "1")
    assert (code, stdout) == (0, "")
    assert f"iqa-export --model yoto --variant edge --weights {out / 'best.safetensors'}" in err
    with (out / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"epoch", "learning_rate", "loss_total", "srcc_nr", "srcc_fr", "selection", "seconds"} <= set(row)
    with safetensors.safe_open(out / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["licence"] == "CC0-1.0"
    assert metadata["trained_on"].startswith("synthetic set ")
    assert "4 pictures" in metadata["trained_on"]
    assert (metadata["model"], metadata["variant"], metadata["recipe"]) == ("yoto", "edge", "yoto")
    system = YotoSystem()
    load_into(system.build("edge"), read_checkpoint(out / "best.safetensors"), system.key_map("edge"))

    # What is done is not done again; another configuration does not go on from it.
    state = (out / "last.pt").read_bytes()
    assert run(*arguments, "--threads", "1")[0] == 0
    assert (out / "last.pt").read_bytes() == state
    config.write_text(CONFIG.replace("variant: edge", "variant: edge, decorrelation: 0.5"))
    code, _, err = run(*arguments, "--threads", "1")
    assert code == 2
    assert "a run of other settings is there" in err


@pytest.mark.slow
def test_a_run_on_all_pictures_keeps_its_last_epoch(run, tmp_path, config, photographs):
    data = Path(shutil.copytree(photographs, tmp_path / "data"))
    rows = "".join(f"{file.name},,{label}\n" for label, file in enumerate(data.iterdir()))
    (data / "mos.csv").write_text(f"distorted,reference,mos\n{rows}")
    config.write_text(
        "{dataset: csv, part: all, validation: 0, loop: {epochs: 2, batch: 2, cosine_epochs: 1, renew_optimizer: true},"
        "recipe: {variant: edge, mode: nr, optimizer: adam, attention_dropout: 0.1}}"
    )
    out = tmp_path / "out"
    options = ("--config", config, "--data", data, "--out", out, "--device", "cpu", "--threads", "1")
    code, _, err = run("yoto", *options)
    assert code == 0
    assert "no validation; next: iqa-export --model yoto" in err
    with (out / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    # The rate that the second epoch began with, and the one that a third would.
    assert [float(row["learning_rate"]) for row in table] == pytest.approx([0, 1e-4], abs=1e-12)
    with safetensors.safe_open(out / "best.safetensors", "pt") as file:
        assert (file.metadata()["epoch"], file.metadata()["selection"]) == ("2", "undefined")
