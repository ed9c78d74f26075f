"""Layers of an engine beside those of the graph it was built from; the engine is a stand-in that runs the graph."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from command_line import invoke
from fake_engines import describe, stand_ins
from fake_tensorrt import Fake
from fake_tensorrt_types import MAGIC, DataType
from iqa_calibration.commands.compare import main
from iqa_calibration.comparing.layers import compare_layers
from iqa_calibration.comparing.sources import open_both
from iqa_calibration.graphs.runner import Runner
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.backends.openvino import OpenVinoBackend
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import ArtefactError, FileError, UsageError

LAYERS = {
    "differences": (1, 8, 22, 22),
    "magnitudes": (1, 8, 22, 22),
    "pooled": (1, 8, 1, 1),
    "features": (1, 8),
    "hidden": (1, 128),
    "active": (1, 128),
    "column": (1, 1),
    "score": (1,),
}
"""What the graph of the fixture `artefact` computes."""

HALF = 2.0**-11
"""Largest relative error of rounding to half."""

WRONG = 0.25
"""How much the engine of these tests changes a tensor; far beyond any rounding."""


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with stand_ins(monkeypatch) as (fake, _):
        yield fake


@pytest.fixture
def engine(tensorrt: Fake, artefact: Path) -> Callable[..., Path]:
    """Return a function that writes the stand-in for a marked engine of the artefact, computing what the graph does."""

    def write(
        *,
        layers: dict[str, tuple[int, ...]] | None = None,
        halves: tuple[str, ...] = (),
        wrong: str = "",
    ) -> Path:
        layers = LAYERS if layers is None else layers
        side = read_contract(artefact).patch_plan.size
        content = {
            "version": sys.modules["tensorrt"].__version__,
            "inputs": [["image", int(DataType.FLOAT), [-1, 3, side, side]]],
            "outputs": [
                [name, int(DataType.HALF if name in halves else DataType.FLOAT), shape]
                for name, shape in ({"score": (1,)} | layers).items()
            ],
            "flags": [],
            "layers": 1,
            "profiles": [{"image": [[1, 3, side, side]] * 3}],
            "weights": "some",
        }
        plan = artefact.with_suffix(".plan")
        plan.write_bytes(MAGIC + json.dumps(content).encode())
        contract, origin = read_contract(artefact), FileDigest.of_file(artefact)
        describe(plan, contract=contract, source=origin, layer_tensors=layers)
        runner = Runner(onnx.load(artefact), extra_outputs=list(LAYERS))

        def compute(name: str, inputs: list[NDArray[Any]]) -> Any:
            if name not in LAYERS:
                return 0.0
            return runner.run({"image": inputs[0]}, [name])[name] * (1 + WRONG * (name == wrong))

        tensorrt.compute = compute
        return plan

    return write


@pytest.fixture
def images(photographs: Path) -> list[str]:
    return [str(path) for path in sorted(photographs.iterdir())]


def test_a_tensor_that_the_engine_computes_otherwise_is_the_worst(
    artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    rows, apart = compare_layers(*open_both(artefact, engine(wrong="hidden")), images)
    assert apart == 0
    assert {row.tensor: row.shape for row in rows} == LAYERS
    assert (rows[0].tensor, rows[0].node, rows[0].operator) == ("hidden", "hidden", "MatMul")
    assert rows[0].relative == pytest.approx(WRONG, rel=1e-6), "float32 rounding of one product"
    assert {row.relative for row in rows[1:]} == {0.0}, "the others come from the same kernels"


def test_the_graph_names_the_nodes_when_it_is_the_second(
    artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    rows, _ = compare_layers(*open_both(engine(wrong="pooled"), artefact), images)
    assert (rows[0].tensor, rows[0].node, rows[0].operator) == ("pooled", "pool", "GlobalAveragePool")
    assert rows[0].relative == pytest.approx(WRONG / (1 + WRONG), rel=1e-6), "a share of the engine's, the first one"


def test_tensors_in_half_are_compared_as_they_are(
    artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    rows, _ = compare_layers(*open_both(artefact, engine(halves=("differences",))), images)
    assert rows[0].tensor == "differences"
    assert 0 < rows[0].relative < HALF
    assert rows[1].relative == 0.0


def test_what_the_engine_does_not_show_or_shows_otherwise_has_no_partner(
    artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    layers = {name: shape for name, shape in LAYERS.items() if name != "active"} | {"pooled": (8, 1, 1), "more": (1, 4)}
    rows, apart = compare_layers(*open_both(artefact, engine(layers=layers)), images)
    assert {row.tensor for row in rows} == set(LAYERS) - {"active", "pooled"}
    assert apart == 2
    with pytest.raises(ArtefactError, match="no tensor of the same name"):
        compare_layers(*open_both(artefact, engine(layers={"more": (1, 4)})), images)


def test_an_engine_without_marks_is_refused_with_the_command_that_makes_them(
    tensorrt: Fake, artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    plan = engine(layers={})
    command = r"iqa-engine build tiny\.onnx --mark-layers --output tiny\.layers\.plan"
    with pytest.raises(UsageError, match=rf"tiny\.plan: built without marked layers.*{command}"):
        compare_layers(*open_both(artefact, plan), images)
    result = invoke(main, str(artefact), str(plan), "--images", images[0], "--layers")
    assert result.exit_code == 2
    assert tensorrt.deserialised == 0, "nothing is scored first"


def test_two_engines_have_no_graph_between_them(engine: Callable[..., Path], images: list[str]) -> None:
    plan = engine()
    with pytest.raises(UsageError, match=r"none is an ONNX file.*compare each with the one it was built from"):
        compare_layers(*open_both(plan, plan), images)
    result = invoke(main, str(plan), str(plan), "--images", images[0], "--layers")
    assert result.exit_code == 2


def test_an_engine_whose_description_is_missing_is_named(artefact: Path, tmp_path: Path, images: list[str]) -> None:
    with pytest.raises(FileError, match=r"none\.plan\.json"):
        compare_layers(*open_both(artefact, tmp_path / "none.plan"), images)


def test_the_command_compares_scores_and_layers_of_an_engine(
    artefact: Path, engine: Callable[..., Path], tmp_path: Path, images: list[str]
) -> None:
    output = tmp_path / "c.json"
    arguments = [str(artefact), str(engine(wrong="score")), "--images", *images[:1], "--layers", "--json", str(output)]
    result = invoke(main, *arguments, "--threads", "1")
    assert result.exit_code == 0, result.output
    content = json.loads(output.read_text(encoding="utf-8"))
    (image,) = content["scores"]["images"]
    assert image["second"] == pytest.approx(image["first"] * (1 + WRONG), rel=1e-6)
    assert content["layers"][0]["tensor"] == "score"
    assert content["scores"]["second"]["backend"].startswith("tensorrt Fake GPU")


def test_a_backend_that_shows_nothing_stands_for_the_graph(
    artefact: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVinoBackend, "activate", lambda _: pytest.fail("it is not needed"))
    rows, apart = compare_layers(*open_both(artefact, artefact), images, backends=(None, "openvino"))
    assert ({row.relative for row in rows}, apart) == ({0.0}, 0)


def test_each_image_gives_one_crop(
    tensorrt: Fake, artefact: Path, engine: Callable[..., Path], images: list[str]
) -> None:
    seen: list[NDArray[Any]] = []
    plan = engine()
    compute = tensorrt.compute
    assert compute is not None

    def look(name: str, inputs: list[NDArray[Any]]) -> Any:
        seen.append(inputs[0].copy())
        return compute(name, inputs)

    tensorrt.compute = look
    compare_layers(*open_both(artefact, plan), images, items=2)
    crops = {crop.tobytes() for crop in seen if np.any(crop)}  # the backend tries itself on zeros
    assert len(crops) == 2
