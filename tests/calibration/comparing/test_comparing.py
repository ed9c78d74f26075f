"""Comparing two artefacts: scores, tensors, reports and the command line."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from scipy import stats

import fake_cuda
import fake_tensorrt
from command_line import invoke
from fake_tensorrt_sources import write_cached
from iqa_calibration.commands.compare import main
from iqa_calibration.comparing.layers import compare_layers
from iqa_calibration.comparing.scores import check_comparable, compare_scores
from iqa_calibration.comparing.sources import open_both
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.half.casting import FORMATS, converted
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.artefacts.signing import sign, signature_path
from iqa_runtime.contract import Contract, PatchPlan, ScoreOutput
from iqa_runtime.errors import ArtefactError, FileError, ImageError, UsageError
from iqa_runtime.scorer import Scorer
from signing_keys import write_key_pair
from tiny_contract import tiny_contract

SIDE = 16
ROUNDING = 1e-6
"""Relative, of float32 sums of a few hundred terms."""


def contract(task: str = "nr", **changes: Any) -> Contract:
    return tiny_contract(
        SIDE, task, mean=0.0, std=1.0, **({"patch_plan": PatchPlan(kind="center", size=SIDE)} | changes)
    )


def write(path: Path, *, gain: float = 1.0, offset: float = 0.0, middle: str = "scaled", **changes: Any) -> Path:
    """Write: score = mean(gain * image) + offset, through the tensors `middle` and ``mean``."""
    nodes = [
        helper.make_node("Mul", ["image", "gain"], [middle], name="scale"),
        helper.make_node("ReduceMean", [middle, "axes"], ["mean"], name="average", keepdims=0),
        helper.make_node("Add", ["mean", "offset"], ["score"], name="shift"),
    ]
    constants = [
        numpy_helper.from_array(np.array(gain, np.float32), "gain"),
        numpy_helper.from_array(np.array(offset, np.float32), "offset"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", onnx.TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [value("score", onnx.TensorProto.FLOAT, ["batch"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    embed_contract(model, contract(**changes))
    save(model, path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    paths = []
    for index in range(6):
        pixels = random.integers(0, 40 * (index + 1), (SIDE, SIDE, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        cv2.imwrite(paths[-1], pixels)
    return paths


def scores_of(path: Path, images: list[str]) -> list[float]:
    with Scorer(path, threads=1) as scorer:
        return [result.value or math.nan for result in scorer.score_many(images)]


def compare(first: Path, second: Path, images: list[str], **options: Any) -> Any:
    with Scorer(first, threads=1) as left, Scorer(second, threads=1) as right:
        return compare_scores(left, right, images, **options)


class TestScores:
    def test_numbers_are_those_of_other_libraries(self, tmp_path: Path, images: list[str]) -> None:
        first, second = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", gain=-0.5, offset=0.25)
        left, right = np.array(scores_of(first, images)), np.array(scores_of(second, images))
        found = compare(first, second, images)
        assert found.mean == pytest.approx(np.abs(left - right).mean(), rel=ROUNDING)
        assert found.largest == pytest.approx(np.abs(left - right).max(), rel=ROUNDING)
        assert found.spread == pytest.approx(np.percentile(left, 95) - np.percentile(left, 5), rel=ROUNDING)
        assert found.largest_share == pytest.approx(found.largest / found.spread)
        assert found.srcc == pytest.approx(stats.spearmanr(left, right).statistic)
        assert found.plcc == pytest.approx(stats.pearsonr(left, right).statistic)

    def test_images_come_with_the_largest_difference_first(self, tmp_path: Path, images: list[str]) -> None:
        first, second = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", gain=1.5)
        rows = compare(first, second, images).images
        assert {row.image for row in rows} == set(images)
        differences = [abs(row.difference) for row in rows]
        assert differences == sorted(differences, reverse=True)
        assert rows[0].image == images[-1], "half of the brightest"
        assert rows[0].difference == pytest.approx(rows[0].second - rows[0].first)

    def test_an_artefact_equals_itself(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        found = compare(path, path, images)
        assert (found.largest, found.srcc) == (0.0, 1.0)

    def test_one_image_has_no_spread(self, tmp_path: Path, images: list[str]) -> None:
        found = compare(write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", offset=0.1), images[:1])
        assert (found.mean_share, found.largest_share, found.srcc) == (None, None, None)

    @pytest.mark.parametrize(
        "changes",
        [
            {"score": ScoreOutput(low=0, high=100, higher_is_better=True, bounded=False, scale="s")},
            {"score": ScoreOutput(low=0, high=1, higher_is_better=False, bounded=False, scale="s")},
        ],
    )
    def test_scores_of_two_kinds_are_not_compared(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="two kinds"):
            check_comparable(contract(), contract(**changes))

    def test_other_crops_are_not_compared(self, tmp_path: Path, images: list[str]) -> None:
        other = write(tmp_path / "b.onnx", patch_plan=PatchPlan(kind="five", size=SIDE))
        with pytest.raises(UsageError, match=r"crops center and five.*``crops``"):
            compare(write(tmp_path / "a.onnx"), other, images)

    def test_no_images_and_bad_images_are_errors(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.onnx")
        with pytest.raises(UsageError, match="no image"):
            compare(path, path, [])
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"no picture")
        with pytest.raises(ImageError, match=r"bad\.png"):
            compare(path, path, [str(bad)])


class TestLayers:
    def test_a_changed_node_is_found_with_its_size(self, tmp_path: Path, images: list[str]) -> None:
        first, second = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", gain=1.25)
        rows, apart = compare_layers(*open_both(first, second), images)
        assert apart == 0
        by_name = {row.tensor: row for row in rows}
        assert set(by_name) == {"scaled", "mean", "score"}
        for row in rows:
            assert row.relative == pytest.approx(0.25, rel=1e-5), "float32 rounding of products"
        pixels = [cv2.imread(path)[..., ::-1] / 255 for path in images[:4]]
        assert by_name["scaled"].largest == pytest.approx(0.25 * max(image.max() for image in pixels), rel=1e-5)
        assert (by_name["scaled"].node, by_name["scaled"].operator) == ("scale", "Mul")
        assert by_name["scaled"].shape == (1, 3, SIDE, SIDE)

    def test_the_worst_comes_first(self, tmp_path: Path, images: list[str]) -> None:
        rows, _ = compare_layers(*open_both(write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", offset=5.0)), images)
        assert [row.relative for row in rows] == [pytest.approx(rows[0].relative), 0.0, 0.0]
        assert rows[0].tensor == "score"
        assert rows[0].largest == pytest.approx(5.0, rel=ROUNDING)

    def test_tensors_without_a_partner_are_counted(self, tmp_path: Path, images: list[str]) -> None:
        rows, apart = compare_layers(
            *open_both(write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", middle="other")), images
        )
        assert apart == 1
        assert {row.tensor for row in rows} == {"mean", "score"}

    def test_nothing_in_common_is_an_error(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        model, contract = onnx.load(path), read_contract(path)
        for node in model.graph.node:
            for index, name in enumerate(node.output):
                node.output[index] = f"other_{name}"
            for index, name in enumerate(node.input):
                node.input[index] = f"other_{name}" if name in ("scaled", "mean") else name
        model.graph.output[0].name = "other_score"
        embed_contract(model, replace(contract, score=replace(contract.score, name="other_score")))
        onnx.save(model, tmp_path / "b.onnx")
        with pytest.raises(ArtefactError, match="no tensor of the same name"):
            compare_layers(*open_both(path, tmp_path / "b.onnx"), images)

    def test_half_shows_the_rounding_of_half(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx", gain=1 / 3)
        model = converted(onnx.load(path), FORMATS["fp16"], keep=[])
        embed_contract(model, contract(precision="fp16"))
        save(model, tmp_path / "b.onnx")
        rows, _ = compare_layers(*open_both(path, tmp_path / "b.onnx"), images)
        worst = max(row.relative for row in rows)
        # A half keeps 11 bits; more than a few roundings of it would be another error.
        assert 2**-14 < worst < 2**-9

    def test_values_that_are_not_finite_are_the_worst(self, tmp_path: Path, images: list[str]) -> None:
        rows, _ = compare_layers(
            *open_both(write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", offset=math.inf)), images
        )
        assert rows[0].tensor == "score"
        assert rows[0].relative == math.inf

    def test_passes_split_by_memory_find_the_same(
        self, tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", gain=1.25)
        whole = compare_layers(*open_both(first, second), images)
        monkeypatch.setattr("iqa_calibration.comparing.layers._GROUP_ELEMENTS", 1)
        stages: list[tuple[str, int, int]] = []
        assert compare_layers(*open_both(first, second), images, progress=lambda *told: stages.append(told)) == whole
        assert [(done, total) for _, done, total in stages] == [(1, 3), (2, 3), (3, 3)]

    def test_bad_arguments(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        with pytest.raises(FileError, match=r"x\.plan\.json"):
            compare_layers(*open_both(path, tmp_path / "x.plan"), images)
        with pytest.raises(UsageError, match="at least one"):
            compare_layers(*open_both(path, path), images, items=0)


class TestTrust:
    @pytest.fixture
    def artefact(self, tmp_path: Path) -> Path:
        return write(tmp_path / "a.onnx")

    @pytest.fixture
    def keys(self, tmp_path: Path) -> tuple[Path, Path]:
        """Return the public key of the engine, and another one."""
        (tmp_path / "other").mkdir()
        return write_key_pair(tmp_path)[1], write_key_pair(tmp_path / "other")[1]

    @pytest.fixture
    def plan(self, keys: tuple[Path, Path], artefact: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Return a signed engine of the stand-in that shows one tensor."""
        engine = pytest.importorskip("iqa_export.engine")
        tensorrt, runtime = fake_tensorrt.install(monkeypatch), fake_cuda.install(monkeypatch)
        tensorrt.enqueue = runtime.enqueue
        path = artefact.with_suffix(".plan")
        described = engine.build_engine(artefact, path, engine.EngineOptions(opt_batch=1, max_batch=1))
        description = replace(described, layer_tensors={"score": (1,)}).to_json()
        description_path(path).write_bytes(description)
        signature_path(description_path(path)).write_bytes(sign(description, keys[0].with_name("key.pem")))
        return path

    @pytest.mark.parametrize("options", [[], ["--layers"]])
    @pytest.mark.parametrize("engine_first", [False, True])
    def test_only_engines_signed_with_the_key_are_compared(
        self,
        artefact: Path,
        plan: Path,
        keys: tuple[Path, Path],
        images: list[str],
        options: list[str],
        engine_first: bool,
    ) -> None:
        files = [str(plan), str(artefact)] if engine_first else [str(artefact), str(plan)]
        arguments = [*files, "--images", images[0], "--threads", "1", *options, "--trust"]
        result = invoke(main, *arguments, str(keys[0]))
        assert result.exit_code == 0, result.output
        result = invoke(main, *arguments, str(keys[1]))
        assert result.exit_code == 1
        assert "not the signature of" in result.stderr

    def test_layers_in_python_ask_for_the_signature_too(
        self, artefact: Path, plan: Path, keys: tuple[Path, Path], images: list[str]
    ) -> None:
        assert compare_layers(*open_both(artefact, plan, trust=keys[0]), images)[0]
        with pytest.raises(ArtefactError, match="not the signature of"):
            open_both(artefact, plan, trust=keys[1])

    def test_without_an_engine_there_is_nothing_to_sign(self, artefact: Path, images: list[str]) -> None:
        arguments = [str(artefact), str(artefact), "--images", images[0], "--trust", "key.pem"]
        result = invoke(main, *arguments)
        assert result.exit_code == 2
        assert "only engines (.plan) are signed" in result.stderr


class TestCommand:
    def test_tables_json_and_page(self, tmp_path: Path, images: list[str]) -> None:
        first, second = write(tmp_path / "a.onnx"), write(tmp_path / "b<i>.onnx", gain=1.25)
        outputs = ["--json", str(tmp_path / "c.json"), "--report", str(tmp_path / "c.html")]
        arguments = [str(first), str(second), "--images", str(tmp_path), "--threads", "1", "--layers", *outputs]
        result = invoke(main, *arguments)
        assert result.exit_code == 0, result.output
        for text in ("largest difference", "SRCC", "scaled", "5.png", "b<i>.onnx"):
            assert text in result.output
        content = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
        assert content["scores"]["second"]["artefact"]["file"] == "b<i>.onnx"
        assert len(content["scores"]["images"]) == len(images)
        assert {row["tensor"] for row in content["layers"]} == {"scaled", "mean", "score"}
        page = (tmp_path / "c.html").read_text(encoding="utf-8")
        assert "b&lt;i&gt;.onnx" in page
        assert "<i>" not in page
        assert not re.search(r"(src|href)=|https?://", page), "it needs nothing else"
        for name in ("0.png", "scaled", "average"):
            assert name in page

    def test_layers_are_left_out_unless_asked_for(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        output = tmp_path / "c.json"
        result = invoke(main, str(path), str(path), "--images", images[0], "--json", str(output))
        assert result.exit_code == 0, result.output
        assert "tensors" not in result.output
        assert json.loads(output.read_text(encoding="utf-8"))["layers"] is None

    def test_what_is_asked_of_pictures_is_asked_of_both(self, tmp_path: Path, images: list[str]) -> None:
        path, output = write(tmp_path / "a.onnx"), tmp_path / "c.json"
        first = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)).quantize(200)
        animation = tmp_path / "moving.gif"
        first.save(animation, save_all=True, append_images=[first.rotate(180)])
        arguments = [str(path), str(path), "--images", str(animation), "--json", str(output), "--threads", "1"]
        result = invoke(main, *arguments)
        assert result.exit_code == 1
        assert "an animated GIF" in result.stderr
        assert "(--frame first)" in result.stderr
        result = invoke(main, *arguments, "--frame", "first", "--resize", "shorter:20:box", "--layers")
        assert result.exit_code == 0, result.output
        report = json.loads(output.read_text(encoding="utf-8"))
        with Scorer(path, threads=1, frame="first", resize="shorter:20:box") as scorer:
            assert report["scores"]["images"][0]["first"] == scorer.score(animation).value
        assert [report["scores"][side]["resize"] for side in ("first", "second")] == ["shorter:20:box"] * 2
        assert report["layers"]
        result = invoke(main, *arguments, "--frame", "first", "--timeout", "0")
        assert "--timeout 0" in result.stderr

    @pytest.mark.openvino
    def test_one_artefact_on_two_backends(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        arguments = [str(path), str(path), "--images", images[0], "--second-backend", "openvino", "--threads", "1"]
        result = invoke(main, *arguments)
        assert result.exit_code == 0, result.output
        assert "openvino CPU (float32)" in result.output

    def test_what_is_read_is_not_overwritten(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        for target in (path, images[0]):
            result = invoke(main, str(path), str(path), "--images", images[0], "--report", str(target))
            assert "would overwrite" in result.stderr

    def test_the_reference_encoder_is_not_written_over(self, tmp_path: Path, images: list[str]) -> None:
        path = write_cached(tmp_path / "a.onnx")
        encoder = tmp_path / "a.reference.onnx"
        before = encoder.read_bytes()
        arguments = [str(path), str(path), "--images", images[0], "--reference", images[0]]
        for option in ("--json", "--report"):
            result = invoke(main, *arguments, option, str(encoder))
            assert result.exit_code == 2
            assert f"{option}: {encoder} would overwrite the reference encoder of the artefact" in result.stderr
            assert encoder.read_bytes() == before

    @pytest.mark.parametrize("option", ["--backend", "--device", "--second-backend", "--second-device"])
    def test_what_is_wrong_of_a_side_is_said_of_its_option(
        self, tmp_path: Path, images: list[str], option: str
    ) -> None:
        path = write(tmp_path / "a.onnx")
        result = invoke(main, str(path), str(path), "--images", images[0], option, "foo")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"iqa-compare: {option} foo")

    def test_a_missing_folder_is_found_before_the_work(self, tmp_path: Path, images: list[str]) -> None:
        path = write(tmp_path / "a.onnx")
        output = tmp_path / "none" / "c.json"
        result = invoke(main, str(path), str(path), "--images", images[0], "--json", str(output))
        assert result.exit_code == 1

    def test_errors_are_one_line_and_an_exit_code(self, tmp_path: Path, images: list[str]) -> None:
        command = [sys.executable, "-m", "iqa_calibration.commands.compare"]
        for arguments, code in (([str(tmp_path / "x.onnx")] * 2 + ["--images", images[0]], 1), (["edge"], 2)):
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == code
            assert done.stderr.startswith("iqa-compare: ")
            assert done.stderr.count("\n") == 1
