"""Tensors inside an engine that was built with ``--mark-layers``, on stand-ins for TensorRT and CUDA."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fake_engines import describe, stand_ins
from fake_tensorrt import Fake
from fake_tensorrt_types import MAGIC, DataType
from iqa_runtime.artefacts.engine_file import read_engine_file
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.opening import open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec
from iqa_runtime.backends.tensorrt import TensorRtBackend
from iqa_runtime.errors import ArtefactError, BackendError, UsageError

ITEM = (3, 8, 8)
SPEC = GraphSpec((TensorSpec("image", ITEM, "float32"),), (TensorSpec("score", ()),))
TENSORS: dict[str, tuple[DataType, tuple[int, ...]]] = {
    "score": (DataType.FLOAT, (1,)),
    "planes": (DataType.FLOAT, (3, 8, 8)),
    "halves": (DataType.HALF, (1, 3, 8, 8)),
}
"""Outputs of the engine; the first axis of ``planes`` is no batch."""


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with stand_ins(monkeypatch) as (fake, _):
        fake.compute = lambda name, inputs: inputs[0].mean() if name == "score" else inputs[0]
        yield fake


@pytest.fixture
def write_plan(tensorrt: Fake, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an engine that shows `TENSORS`, and a description that says so, or otherwise."""
    del tensorrt  # for whose host it is

    def write(described: dict[str, tuple[int, ...]] | None = None, **changes: Any) -> Path:
        tensors = TENSORS | changes
        content = {
            "version": sys.modules["tensorrt"].__version__,
            "inputs": [["image", int(DataType.FLOAT), [-1, *ITEM]]],
            "outputs": [[name, int(kind), shape] for name, (kind, shape) in tensors.items()],
            "flags": [],
            "layers": 1,
            "profiles": [{"image": [[1, *ITEM]] * 3}],
            "weights": "some",
        }
        path = tmp_path / "model.reference.plan"  # needs no contract
        path.write_bytes(MAGIC + json.dumps(content).encode())
        described = {name: shape for name, (_, shape) in TENSORS.items()} if described is None else described
        describe(path, layer_tensors=described)
        return path

    return write


def opened(path: Path) -> TensorRtBackend:
    return TensorRtBackend(open_graph(path), SPEC, device="cuda", threads=1)


def images(items: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((items, *ITEM), dtype=np.float32)


def test_tensors_come_as_the_engine_makes_them(tensorrt: Fake, write_plan: Callable[..., Path]) -> None:
    image = images(1)
    with opened(write_plan()) as backend:
        assert backend.layer_tensors() == {name: shape for name, (_, shape) in TENSORS.items()}
        found = backend.run_layers({"image": image}, ["halves", "planes"])
        assert (tensorrt.contexts, backend.concurrent_runs) == (1, 1), "memory for all that is inside is taken once"
    assert list(found) == ["halves", "planes"]
    np.testing.assert_array_equal(found["planes"], image[0])
    np.testing.assert_array_equal(found["halves"], image.astype(np.float16))


def test_it_scores_as_any_engine_does(write_plan: Callable[..., Path]) -> None:
    batch = images(3)
    with opened(write_plan()) as backend:
        scores = backend.infer({"image": batch}, ["score"])["score"]
    np.testing.assert_array_equal(scores, [image.mean() for image in batch])


def test_what_cannot_be_shown_is_refused(write_plan: Callable[..., Path]) -> None:
    backend = opened(write_plan())
    with pytest.raises(UsageError, match="not active"):
        backend.run_layers({"image": images(1)}, ["planes"])
    with backend:
        with pytest.raises(UsageError, match="shows no tensor 'other'"):
            backend.run_layers({"image": images(1)}, ["other"])
        with pytest.raises(UsageError, match="2 items"):
            backend.run_layers({"image": images(2)}, ["planes"])
        with pytest.raises(UsageError, match="'image' is float64"):
            backend.run_layers({"image": images(1).astype(np.float64)}, ["planes"])


@pytest.mark.parametrize("described", [{"other": (1,)}, {"planes": (3, 8, 8), "counts": (1,)}])
def test_an_engine_that_does_not_show_what_is_described_is_refused(
    write_plan: Callable[..., Path], described: dict[str, tuple[int, ...]]
) -> None:
    path = write_plan(described, counts=(DataType.INT64, (1,)))
    with pytest.raises(ArtefactError, match=r"shows no float tensor '(other|counts)'"):
        opened(path).activate()


def test_another_shape_than_described_is_an_error(write_plan: Callable[..., Path]) -> None:
    with (
        opened(write_plan({"planes": (1, 3, 8, 8)})) as backend,
        pytest.raises(BackendError, match=r"'planes' came as float32 \(3, 8, 8\).*build the engine again"),
    ):
        backend.run_layers({"image": images(1)}, ["planes"])


def test_an_engine_shows_nothing_unless_it_was_marked(write_plan: Callable[..., Path]) -> None:
    assert opened(write_plan({})).layer_tensors() == {}


def test_a_description_without_the_field_is_read(write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    fields = json.loads(description_path(path).read_text(encoding="utf-8"))
    del fields["layer_tensors"]
    description_path(path).write_text(json.dumps(fields), encoding="utf-8")
    assert read_engine_file(path).layer_tensors == {}


def test_the_commands_of_a_description(write_plan: Callable[..., Path]) -> None:
    marked, plain = read_engine_file(write_plan()), read_engine_file(write_plan({}))
    assert marked.rebuild_command.endswith(" --mark-layers")
    assert "--mark-layers" not in plain.rebuild_command
    expected = "iqa-engine build model.onnx --mark-layers --output model.layers.plan --library tensorrt"
    assert plain.marking_command == expected
