"""The example prints the scores that iqa_runtime gives for the same frames, and its few lines stay few."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime.contract import Contract, PatchPlan, ScoreOutput, TensorInput, Weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed.py"
SIDE = 16
TOLERANCE = 1e-5
"""For a float32 mean of 256 equal values of at most 1: far above its rounding."""


@pytest.fixture
def redness(tmp_path):
    """An untrained artefact whose score is the mean of the red channel, so that a swapped channel order shows."""
    nodes = [
        helper.make_node("Split", ["image"], ["red", "green", "blue"], axis=1, num_outputs=3),
        helper.make_node("ReduceMean", ["red", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "redness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])],
    )
    contract = Contract(
        model="redness",
        variant="plain",
        task="nr",
        options={},
        precision="fp32",
        target="any",
        opset=20,
        inputs=(TensorInput(name="image", shape=("batch", 3, SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1)),),
        patch_plan=PatchPlan(kind="center", size=SIDE),
        pooling="mean",
        faithful="as published",
        score=ScoreOutput(low=0, high=1, higher_is_better=True, bounded=True, scale="brightness"),
        weights=Weights(file="random:0", sha256="0" * 64, trained=False, licence="none", trained_on="nothing"),
        exporter="tests",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    embed_contract(model, contract)
    onnx.save(model, tmp_path / "redness.onnx")
    return tmp_path / "redness.onnx"


@pytest.fixture
def picture(tmp_path):
    rgb = np.full((20, 30, 3), (204, 51, 0), np.uint8)
    _, data = cv2.imencode(".png", rgb[..., ::-1])
    (tmp_path / "orange.png").write_bytes(data.tobytes())
    return tmp_path / "orange.png"


def run(*arguments):
    return subprocess.run([sys.executable, EXAMPLE, *arguments], capture_output=True, text=True, check=False)


def test_it_prints_a_score_a_frame(redness, picture):
    result = run(redness, picture, picture)
    found = re.findall(r"orange\.png: (\S+) \(0 to 1, higher is better, untrained\)\n", result.stdout)
    assert [float(value) for value in found] == pytest.approx([0.8, 0.8], abs=TOLERANCE)
    assert (result.returncode, result.stderr) == (0, "")


def test_it_says_which_file_is_no_image(redness, picture):
    result = run(redness, picture, redness)
    assert (result.returncode, result.stderr) == (1, f"{redness}: OpenCV cannot read it\n")


def test_it_explains_itself(redness):
    assert "ARTEFACT IMAGE" in run().stderr
    assert run(redness).returncode == 0


def test_it_is_under_30_lines():
    assert len(EXAMPLE.read_text().splitlines()) < 30
