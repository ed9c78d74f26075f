"""iqa-eval as a user types it, on artefacts whose scores can be worked out and tables whose labels follow from them."""

import csv
import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy import stats

from command_line import invoke
from fake_tensorrt_sources import write_cached
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_runtime import Scorer, read_contract
from iqa_runtime.contract import Contract, FileDigest, PatchPlan, ScoreOutput, TensorInput, Weights
from iqa_runtime.images.loading import load_image
from iqa_training.commands import evaluate as eval_cli
from iqa_training.metrics import METRICS

SIDE = 32
CONTENTS = 6
TYPES = ("brighten", "darken")
LEVELS = (8, 24, 46)
EXACT = 1e-12
"""Rounding of a float64 sum over some dozens of values."""
LEVEL = 0.51 / 255
"""Half a level of 8 bits, to which brightness is rounded in a file, and rounding."""
ROUNDING = 1e-5
"""Of a float32 mean of 3072 values of at most 1."""


def contract(task, *, higher_is_better, trained=True):
    inputs = [
        TensorInput(name=name, shape=("batch", 3, SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))
        for name in ("image", "reference")
    ]
    return Contract(
        model="tiny",
        variant="test",
        task=task,
        options={},
        precision="fp32",
        target="any",
        opset=20,
        inputs=tuple(inputs[: 1 if task == "nr" else 2]),
        patch_plan=PatchPlan(kind="five", size=SIDE),
        pooling="mean",
        faithful="as published",
        score=ScoreOutput(low=0, high=1, higher_is_better=higher_is_better, bounded=True, scale="brightness"),
        weights=Weights(file="tiny.pth", sha256="0" * 64, trained=trained, licence="CC0-1.0", trained_on="nothing"),
        exporter="tests",
    )


def write_artefact(path, nodes, stated):
    """Write an artefact: `nodes` compute ``difference``, the score is its mean over a crop."""
    mean = helper.make_node("ReduceMean", ["difference", "axes"], ["score"], keepdims=0)
    graph = helper.make_graph(
        [*nodes, mean],
        "tiny",
        [helper.make_tensor_value_info(item.name, TensorProto.FLOAT, item.shape) for item in stated.inputs],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    embed_contract(model, stated)
    save(model, path)
    return path


@pytest.fixture
def difference(tmp_path):
    """FR: the mean absolute difference, lower is better."""
    nodes = [
        helper.make_node("Sub", ["image", "reference"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["difference"]),
    ]
    return write_artefact(tmp_path / "difference.onnx", nodes, contract("fr", higher_is_better=False))


@pytest.fixture
def brightness(tmp_path):
    """NR: the mean of the crop, higher is better."""
    nodes = [helper.make_node("Identity", ["image"], ["difference"])]
    return write_artefact(tmp_path / "brightness.onnx", nodes, contract("nr", higher_is_better=True, trained=False))


def step_of(content, name, level):
    return level + content + (CONTENTS if name == "darken" else 0)


def write_png(path, image):
    path.parent.mkdir(exist_ok=True)
    _, data = cv2.imencode(".png", image[..., ::-1])
    path.write_bytes(data.tobytes())


@pytest.fixture
def table(tmp_path):
    """Six photographs, brightened and darkened by three steps each, none twice; the label falls as the step rises."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = []
    random = np.random.default_rng(0)
    for content in range(CONTENTS):
        reference = random.integers(60, 190, (48, 64, 3), dtype=np.uint8)
        write_png(folder / f"ref/{content}.png", reference)
        for name, sign in (("brighten", 1), ("darken", -1)):
            for level in LEVELS:
                step = step_of(content, name, level)
                distorted = (reference.astype(int) + sign * step).astype(np.uint8)
                write_png(folder / f"dist/{content}_{name}_{level}.png", distorted)
                label = 1 - step / 100
                rows.append([f"dist/{content}_{name}_{level}.png", f"ref/{content}.png", label, name])
    return write_table(folder / "mos.csv", rows)


def write_table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["distorted", "reference", "mos", "type"], *rows])
    return path


@pytest.fixture
def run(monkeypatch):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr("iqa_training.evaluation.statistics.RESAMPLES", 10)
    return partial(invoke, eval_cli.main)


def rows_of(report):
    return {(row["images"], row["method"]): row["agreement"] for row in report["rows"]}


def test_page_shows_numbers_plot_and_what_is_missed_most(run, difference, table, tmp_path):
    broken = table.parent / "dist/2_darken_24.png"
    broken.write_bytes(b"<b>no image</b>")
    page = tmp_path / "page.html"
    arguments = [difference, "--dataset", "csv", "--root", table.parent, "--report", page]
    assert run(*arguments, "--baselines")[0] == 1
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 1
    assert "2_darken_24.png</bdi></dt>" in text
    assert "What tiny test misses most" in text
    assert not re.search(r"https?://(?!www.w3.org)|<script", text), "it needs nothing else"
    assert run(*arguments[:-1], table.parent / "dist/0_darken_8.png")[0] == 2


def test_full_reference_artefact_is_judged_with_baselines_and_groups(run, difference, table, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "--dataset",
        "csv",
        "--root",
        table.parent,
        "--output",
        out,
        "--baselines",
        "--group",
        "both=brighten,darken",
    )
    code, stdout, stderr = run(difference, *arguments, "--threads", 1)
    assert (code, stderr.count("\n")) == (0, 1), stderr
    report = json.loads((out / "difference.csv.json").read_bytes())
    rows = rows_of(report)
    methods = ["tiny test", "psnr", "ssim", "gmsd"]
    assert list(rows) == [(images, method) for images in ("all", "both", "brighten", "darken") for method in methods]
    # The score is the step / 255 and lower is better, the label 1 - step / 100: a straight line, in the same order.
    own = rows["all", "tiny test"]
    assert (own["images"], own["contents"]) == (36, 6)
    assert own["srcc"]["value"] == own["krcc"]["value"] == pytest.approx(1, abs=EXACT)
    assert own["srcc"]["low"] == pytest.approx(1, abs=EXACT)
    assert own["plcc_raw"]["value"] == pytest.approx(1, abs=ROUNDING)
    steps = np.array(
        [step_of(content, name, level) for content in range(CONTENTS) for name in TYPES for level in LEVELS]
    )
    raw_error = math.sqrt(np.mean((steps / 100 - steps / 255) ** 2))
    assert own["rmse_raw"]["value"] == pytest.approx(raw_error, abs=ROUNDING)
    assert rows["all", "psnr"]["srcc"]["value"] == pytest.approx(1, abs=EXACT)
    assert rows["all", "psnr"]["rmse_raw"]["reason"].startswith("the score has no nominal range")
    assert rows["both", "tiny test"] == own
    assert rows["brighten", "tiny test"]["images"] == 18
    for text in ("SRCC", "1.000 (1.000 to 1.000)", "brighten", "gmsd", "difference.onnx"):
        assert text in stdout


def test_report_says_what_was_judged_on_what(run, difference, table, tmp_path):
    out = tmp_path / "out"
    assert run(difference, "--dataset", "csv", "--root", table, "--output", out, "--types", "darken")[0] == 0
    report = json.loads((out / "difference.csv.json").read_bytes())
    assert report["artefact"]["sha256"] == FileDigest.of_file(difference).sha256
    assert report["artefact"]["score"]["higher_is_better"] is False
    assert report["images"]["types"] == ["darken"]
    assert report["images"]["scale"] == {"kind": "MOS", "low": 0.0, "high": 1.0}
    assert report["backend"] == "onnxruntime"
    assert {"iqa-deploy", "numpy", "scipy"} <= report["versions"].keys()
    assert [row["images"] for row in report["rows"]] == ["all"]  # one type needs no row of its own


def test_scores_and_plot_are_written(run, difference, table, tmp_path):
    out = tmp_path / "out"
    run(difference, "--dataset", "csv", "--root", table.parent, "--output", out, "--baselines")
    with (out / "difference.csv.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 36
    first = lines[0]
    assert first["distorted"].endswith("dist/0_brighten_8.png")
    assert float(first["human"]) == pytest.approx(0.92)
    assert float(first["tiny test"]) == pytest.approx(8 / 255, abs=ROUNDING)
    pair = [load_image(table.parent / name) for name in ("ref/0.png", "dist/0_brighten_8.png")]
    assert float(first["gmsd"]) == METRICS["gmsd"].function(*pair)
    plot = load_image(out / "difference.csv.png")
    assert plot.shape[1] > 3 * plot.shape[0]  # four panels side by side
    assert len(np.unique(plot.reshape(-1, 3), axis=0)) > 10


def test_the_same_evaluation_writes_the_same_files(run, difference, table, tmp_path):
    for folder in ("one", "two"):
        run(difference, "--dataset", "csv", "--root", table.parent, "--output", tmp_path / folder)
    for suffix in ("json", "png", "csv"):
        one, two = (tmp_path / folder / f"difference.csv.{suffix}" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_no_reference_artefact_sees_the_image_alone_and_untrained_ones_are_named_so(run, brightness, table, tmp_path):
    rows = [
        [f"dist/{c}_brighten_{level}.png", "", level / 100, "brighten"] for c in range(CONTENTS) for level in LEVELS
    ]
    write_table(table, rows)
    code, stdout, stderr = run(brightness, "--dataset", "csv", "--root", table.parent, "--output", tmp_path / "out")
    assert code == 0
    assert "untrained (random weights)" in stderr
    assert "UNTRAINED" in stdout
    own = rows_of(json.loads((tmp_path / "out/brightness.csv.json").read_bytes()))["all", "tiny test"]
    corners = ((0, 0), (0, 32), (16, 0), (16, 32), (8, 16))  # and the middle
    scores = []
    for name, *_ in rows:
        picture = cv2.imread(str(table.parent / name)) / 255
        scores.append(np.mean([picture[top : top + SIDE, left : left + SIDE] for top, left in corners]))
    expected = stats.spearmanr(scores, [label for *_, label, _ in rows]).statistic
    assert own["srcc"]["value"] == pytest.approx(expected, abs=EXACT)
    assert own["contents"] == len(rows)


def test_a_split_judges_its_contents_alone(run, difference, table, tmp_path):
    contents = {}
    for part in ("train", "test", "all"):
        assert (
            run(difference, "--dataset", "csv", "--root", table.parent, "--split", part, "--output", tmp_path / part)[0]
            == 0
        )
        with (tmp_path / part / "difference.csv.csv").open() as file:
            contents[part] = {line["content"] for line in csv.DictReader(file)}
    assert contents["train"] | contents["test"] == contents["all"]
    assert not contents["train"] & contents["test"]


@pytest.mark.parametrize("baselines", [(), ("--baselines",)])
def test_broken_images_are_errors_and_the_others_are_judged(run, difference, table, tmp_path, baselines):
    broken = table.parent / "dist/2_darken_24.png"
    broken.write_bytes(broken.read_bytes()[:200])
    write_png(table.parent / "dist/1_darken_8.png", np.zeros((40, 64, 3), np.uint8))
    code, _, stderr = run(
        difference, "--dataset", "csv", "--root", table.parent, "--output", tmp_path / "out", *baselines
    )
    assert code == 1
    report = json.loads((tmp_path / "out/difference.csv.json").read_bytes())
    assert [Path(failure["image"]).name for failure in report["failures"]] == ["1_darken_8.png", "2_darken_24.png"]
    assert "full-reference scores need equal sizes" in report["failures"][0]["error"]
    assert {row["agreement"]["images"] for row in report["rows"] if row["images"] == "all"} == {34}
    assert stderr.count("2_darken_24.png") == 1
    assert "Traceback" not in stderr


def test_what_a_baseline_cannot_compare_is_left_out_for_all(run, brightness, table, tmp_path):
    write_png(table.parent / "dist/1_darken_8.png", np.full((40, 64, 3), 99, np.uint8))
    code, _, stderr = run(
        brightness, "--dataset", "csv", "--root", table.parent, "--output", tmp_path / "out", "--baselines"
    )
    assert code == 1
    assert "1_darken_8.png" in stderr
    report = json.loads((tmp_path / "out/brightness.csv.json").read_bytes())
    assert {row["agreement"]["images"] for row in report["rows"] if row["images"] == "all"} == {35}


def test_of_an_animation_the_first_frame_is_judged_where_that_is_asked_for(run, difference, table, tmp_path):
    name, out = "1_darken_8", tmp_path / "out"
    still = Image.open(table.parent / f"dist/{name}.png").quantize(256, dither=Image.Dither.NONE)
    still.convert("RGB").save(table.parent / f"dist/{name}.png")
    arguments = [difference, "--dataset", "csv", "--root", table.parent, "--output", out, "--baselines"]
    assert run(*arguments)[0] == 0
    expected = (out / "difference.csv.csv").read_bytes()
    # The content decides what a file is, whatever its name.
    still.save(table.parent / f"dist/{name}.png", "GIF", save_all=True, append_images=[still.rotate(180)])
    code, _, stderr = run(*arguments)
    assert code == 1
    assert "an animated GIF" in stderr
    code, _, stderr = run(*arguments, "--frame", "first")
    assert code == 0, stderr
    assert (out / "difference.csv.csv").read_bytes() == expected


def test_pictures_can_be_resized_and_the_report_says_so(run, brightness, table, tmp_path):
    out = tmp_path / "out"
    arguments = [brightness, "--dataset", "csv", "--root", table.parent, "--output", out]
    assert run(*arguments, "--resize", "shorter:40:box", "--timeout", "60", "--crops", "center")[0] == 0
    artefact = json.loads((out / "brightness.csv.json").read_bytes())["artefact"]
    assert (artefact["resize"], artefact["crops"]) == ("shorter:40:box", "center")
    assert run(*arguments)[0] == 0
    assert json.loads((out / "brightness.csv.json").read_bytes())["artefact"]["resize"] == "none"


def test_images_all_broken_leave_no_number(run, difference, table, tmp_path):
    for path in (table.parent / "dist").iterdir():
        path.write_bytes(b"")
    code, stdout, _ = run(difference, "--dataset", "csv", "--root", table.parent, "--output", tmp_path / "out")
    assert code == 1
    report = json.loads((tmp_path / "out/difference.csv.json").read_bytes())
    assert len(report["failures"]) == 36
    assert report["rows"][0]["agreement"]["srcc"]["reason"] == "0 images; a statistic needs 5"
    assert " - " in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--types", "darken,fog"], "--types: no distortion type 'fog'; there is brighten, darken"),
        (["--types", "darken,,brighten"], "give names of distortion types, each once"),
        (["--group", "mine"], "--group mine: give each group once, as NAME=TYPE,TYPE"),
        (["--group", "a=darken", "--group", "a=brighten"], "give each group once"),
        (["--group", "mine=fog"], "--group mine: no distortion type 'fog'"),
        (["--group", "darken=brighten"], "--group darken: the name is taken"),
        (["--group", "all=brighten"], "--group all: the name is taken"),
        (["--split", "official:test"], "has no part 'official:test'"),
        (["--split", "validation"], "give one of all, train, test"),
        (["--backend", "abacus"], "abacus"),
        (["--device", "tpu"], "tpu"),
        (["--precision", "bfloat16", "--backend", "onnxruntime"], "does not compute in it"),
        (["--seed", "-1"], "'--seed'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(run, difference, table, arguments, message):
    code, stdout, stderr = run(difference, "--dataset", "csv", "--root", table.parent, *arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.startswith("iqa-eval: ")
    assert stderr.count("\n") == 1


def test_missing_and_foreign_files_are_one_line_and_exit_code_2(run, difference, table, tmp_path):
    plain = onnx.load(difference)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    for artefact, name, root, message in [
        (tmp_path / "none.onnx", "csv", table, "none.onnx: cannot read the artefact"),
        (tmp_path / "plain.onnx", "csv", table, "an ONNX file without a contract"),
        (difference, "imagenet", table, "--dataset imagenet: no such data set"),
        (difference, "csv", tmp_path / "nowhere", "nowhere"),
        (difference, "tid2013", table.parent, "TID2013"),
    ]:
        code, stdout, stderr = run(artefact, "--dataset", name, "--root", root)
        assert (code, stdout) == (2, "")
        assert message in stderr
        assert stderr.count("\n") == 1
        assert "Traceback" not in stderr


def test_references_that_are_not_there_are_told_before_any_image_is_scored(run, difference, brightness, table):
    rows = [[f"dist/{c}_darken_8.png", "", 0.5, "darken"] for c in range(CONTENTS)]
    write_table(table, rows)
    for artefact, extra in ((difference, ()), (brightness, ("--baselines",))):
        code, _, stderr = run(artefact, "--dataset", "csv", "--root", table.parent, *extra)
        assert code == 2
        assert "compares with references and the data set has none" in stderr


def test_nothing_that_is_read_is_written_over(run, difference, table, tmp_path):
    labels = table.rename(tmp_path / "set/difference.csv.csv")
    before = labels.read_bytes()
    code, _, stderr = run(difference, "--dataset", "csv", "--root", labels, "--output", tmp_path / "set")
    assert code == 2
    assert "would overwrite the labels" in stderr
    assert labels.read_bytes() == before


def test_the_reference_encoder_is_not_written_over(run, table, tmp_path):
    artefact = write_cached(tmp_path / "cached.onnx")
    encoder = tmp_path / "cached.reference.onnx"
    before = encoder.read_bytes()
    output = tmp_path / "out"
    output.mkdir()
    (output / "cached.csv.json").symlink_to(encoder)
    code, _, stderr = run(artefact, "--dataset", "csv", "--root", table.parent, "--output", output)
    assert code == 2
    assert "would overwrite the reference encoder of the artefact" in stderr
    assert encoder.read_bytes() == before


def test_output_that_cannot_be_a_folder_is_an_error(run, difference, table):
    code, _, stderr = run(difference, "--dataset", "csv", "--root", table.parent, "--output", table)
    assert code == 2
    assert "cannot make the folder" in stderr


def test_evaluation_needs_neither_torch_nor_onnx():
    program = (
        "import sys, iqa_training.commands.evaluate, iqa_training.evaluation.plots, iqa_training.evaluation.report; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'matplotlib.pyplot')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )


@pytest.fixture
def greys(tmp_path):
    """Eleven plain pictures of the brightness 0, 0.1, ..., 1."""
    for step in range(11):
        write_png(tmp_path / f"greys/{step:02}.png", np.full((48, 64, 3), round(25.5 * step), np.uint8))
    return tmp_path / "greys"


def test_a_population_gives_an_artefact_quantiles_and_leaves_its_scores(run, brightness, greys, monkeypatch):
    monkeypatch.chdir(greys.parent)
    (greys / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run(brightness, "--population", greys, "--population-name", "grey cards", "--write-quantiles", "new.onnx")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    (greys / "broken.png").unlink()
    assert run(brightness, "--population", greys, "--write-quantiles", "named.onnx").exit_code == 0
    assert read_contract("named.onnx").score.quantiles.population == "greys"
    quantiles = read_contract("new.onnx").score.quantiles
    assert (quantiles.population, quantiles.images) == ("grey cards", 11)
    assert quantiles.scores == pytest.approx(np.linspace(0, 1, 101).tolist(), abs=LEVEL)
    image = str(greys / "03.png")
    with Scorer(brightness) as before, Scorer("new.onnx") as after:
        assert after.score(image).value == before.score(image).value
        assert (before.score(image).percentile, after.score(image).percentile) == (None, pytest.approx(30, abs=1e-3))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--population", "greys"],
        ["--write-quantiles", "new.onnx"],
        ["--population", "greys", "--write-quantiles", "new.plan"],
        ["--population", "greys", "--write-quantiles", "nowhere/new.onnx"],
        ["--population", "greys", "--write-quantiles", "brightness.onnx"],
        ["--population", "greys", "--write-quantiles", "new.onnx", "--crops", "center"],
        ["--population", "greys", "--write-quantiles", "new.onnx", "--baselines"],
        ["--population", "gone", "--write-quantiles", "new.onnx"],
        ["--population", "greys/00.png", "--write-quantiles", "new.onnx"],
    ],
)
def test_a_population_that_cannot_be_measured_is_a_usage_error(run, brightness, greys, arguments, monkeypatch):
    monkeypatch.chdir(greys.parent)
    result = run(brightness.name, *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not Path("new.onnx").exists()


def test_a_population_of_pairs_is_refused(run, difference, greys):
    result = run(difference, "--population", greys, "--write-quantiles", "new.onnx")
    assert result.exit_code == 2
    assert "reference" in result.stderr
