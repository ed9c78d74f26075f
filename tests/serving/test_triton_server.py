"""A real server of Triton on repositories of iqa-triton, asked by Triton's clients over HTTP and gRPC."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import invoke
from described_plans import CONTENT, described
from eventually import DEADLINE
from iqa_run import lines, run
from iqa_runtime import Scorer
from iqa_runtime.artefacts.bundled import BUNDLED
from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import METADATA_KEY
from iqa_serving.commands.triton import in_words, main
from iqa_serving.triton.config import OUTPUTS
from tiny_contract import tiny_contract
from tritonserver import make_python, started, why_not

pytest.importorskip("tritonclient.grpc")

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "examples" / "photographs").glob("*.jpg"))[:4]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start a server on an empty repository."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("triton")
    (folder / "models").mkdir()
    with started(folder, folder / "models") as running:
        running.repository = folder / "models"
        yield running


@pytest.fixture
def client(server):
    """Make a client that speaks HTTP."""
    with client_of(server, "http") as made:
        yield made


def client_of(server, protocol):
    client = import_module(f"tritonclient.{protocol}").InferenceServerClient(getattr(server, protocol))
    client.protocol = protocol
    return client


def served(server, client, artefact, *options):
    """Write an artefact, and have its models loaded; the name of the first is returned."""
    limits = ("--threads", 1, "--timeout", 10 * DEADLINE)
    written = invoke(main, artefact, "--repository", server.repository, *limits, *options)
    assert written.exit_code == 0, written.stderr
    folders = written.stdout.splitlines()
    for folder in folders:
        client.load_model(Path(folder).name)
    return Path(folders[0]).name


def infer(client, name, **inputs):
    """Ask for all outputs; inputs are lists of encoded images, or arrays."""
    triton = import_module(f"tritonclient.{client.protocol}")
    tensors = []
    for key, given in inputs.items():
        values = given if isinstance(given, np.ndarray) else np.array(given, object).reshape(-1, 1)
        tensors.append(triton.InferInput(key, values.shape, "FP32" if isinstance(given, np.ndarray) else "BYTES"))
        tensors[-1].set_data_from_numpy(values)
    return client.infer(name, tensors)


def rows(result):
    """Return the rows of a result without what differs from run to run, after a look at its other outputs."""
    found = [json.loads(row) for row in result.as_numpy("row").ravel()]
    for output in ("score", "percentile"):
        wanted = [np.nan if row[output] is None else row[output] for row in found]
        np.testing.assert_array_equal(result.as_numpy(output), np.array(wanted).reshape(-1, 1))
    errors = [text.decode() for text in result.as_numpy("error").ravel()]
    assert errors == [row["error"] or "" for row in found]
    return [without_time(row) for row in found]


def without_time(row):
    return row | {"milliseconds": None}


def refusal():
    """Return what clients raise when the server refuses."""
    return import_module("tritonclient.utils").InferenceServerException


def scored(artefact, *sources, **options):
    """Return the rows of the same images scored in this process."""
    with Scorer(artefact, threads=1, **options) as scorer:
        found = [without_time(result.row()) for result in scorer.score_many(*sources)]
    return [row | {"error": row["error"] and in_words(row["error"])} for row in found]


@pytest.fixture(scope="module")
def photographs():
    """Read some photographs."""
    return [path.read_bytes() for path in PHOTOGRAPHS]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_scores_are_those_of_iqa_run(server, photographs, protocol):
    expected = [without_time(row) | {"path": None} for row in lines(run("edge", *PHOTOGRAPHS, "--threads", 1).stdout)]
    assert all(row["score"] is not None for row in expected)
    with client_of(server, protocol) as client:
        name = served(server, client, "edge", "--name", f"edge-{protocol}", "--no-plain")
        assert rows(infer(client, name, image=photographs)) == expected
        assert rows(infer(client, name, image=photographs[1:2])) == expected[1:2]


def test_what_is_wrong_with_an_image_costs_no_other_its_score(server, client, photographs):
    limits = ("--byte-limit", 200_000, "--pixel-limit", 500_000)
    name = served(server, client, "edge", "--name", "limited", "--no-plain", *limits)
    large = cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()
    sent = [photographs[0], b"", b"none", photographs[1], large, photographs[2][:5000], bytes(200_001), photographs[3]]
    expected = scored("edge", sent[:6] + sent[7:], pixel_limit=500_000)
    *found, last = rows(infer(client, name, image=sent))
    too_long = found.pop()
    assert [*found, last] == expected
    assert [row["score"] is None for row in found] == [False, True, True, False, True, True]
    assert too_long["error"] == "image: 200001 bytes, more than the 200000 of --byte-limit; send a smaller file"
    assert (too_long["path"], too_long["score"]) == (None, None)


def test_requests_that_share_a_batch_get_their_own_rows(server, client, photographs):
    name = served(server, client, "edge", "--name", "shared", "--no-plain", "--queue-delay", 200_000, "--instances", 2)
    sent = [*photographs, b"none"] * 3
    expected = scored("edge", sent)

    def ask(image):
        with client_of(server, "grpc") as own:
            return rows(infer(own, name, image=[image]))

    with ThreadPoolExecutor(len(sent)) as clients:
        assert [row for found in clients.map(ask, sent) for row in found] == expected


@pytest.mark.parametrize("artefact", [name for name in BUNDLED if name != "edge-nr"])
def test_every_bundled_artefact(server, client, photographs, artefact):
    name = served(server, client, artefact, "--no-plain", "--name", f"bundled-{artefact}")
    inputs = {"image": photographs[:2]}
    if read_contract(artefact).needs_reference:
        inputs["reference"] = photographs[2:]
    found = rows(infer(client, name, **inputs))
    assert found == scored(artefact, *inputs.values())
    assert [row["error"] for row in found] == [None, None]
    client.unload_model(name)


def test_pairs(server, client, photographs):
    name = served(server, client, "edge-fr", "--no-plain")
    images, references = [*photographs[1:], photographs[0]], [*photographs[:2], b"none", photographs[0]]
    found = rows(infer(client, name, image=images, reference=references))
    assert found == scored("edge-fr", images, references)
    assert [row["error"] is None for row in found] == [True, True, False, True]
    for inputs in ({"image": images}, {"image": images, "reference": references[:1]}):
        with pytest.raises(refusal()):
            infer(client, name, **inputs)


def test_a_reference_encoder_by_itself(server, client):
    name = served(server, client, "cvrkd-edge-any")
    crops = np.zeros((2, 3, 224, 224), np.float32)
    features = infer(client, f"{name}_reference", reference=crops).as_numpy("reference_features")
    score = infer(client, f"{name}_crops", image=crops, reference_features=features).as_numpy("score")
    assert (features.shape, score.shape) == ((2, 256, 7, 7), (2, 1))


def test_crops_that_a_client_cuts(server, client):
    name = served(server, client, "edge", "--name", "edge")
    with Scorer("edge", threads=1) as scorer:
        for model in (name, f"{name}_crops"):
            parameters = client.get_model_config(model)["parameters"]
            assert contract_from_json(parameters[METADATA_KEY]["string_value"]) == scorer.contract
        image = scorer.contract.input("image")
        pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        expected = scorer.score(pixels).patch_scores
    assert image.color == "RGB"
    crop = ((pixels / 255 - image.mean) / image.std).astype(np.float32).transpose(2, 0, 1)
    result = infer(client, f"{name}_crops", image=np.stack([crop] * len(expected)))
    np.testing.assert_allclose(result.as_numpy("score")[:, 0], expected, atol=1e-5)  # float32, normalised otherwise
    assert result.as_numpy("quality_map").shape == (len(expected), 28, 28)


def test_what_clients_are_told(server, client):
    name = served(server, client, "edge", "--name", "told", "--no-plain", "--max-batch-size", 3)
    metadata = client.get_model_metadata(name)
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    kinds = {output["name"]: output["datatype"] for output in metadata["outputs"]}
    assert kinds == {"score": "FP64", "percentile": "FP64", "error": "BYTES", "row": "BYTES"}
    assert set(kinds) == set(OUTPUTS)
    with pytest.raises(refusal(), match="batch-size must be <= 3"):
        infer(client, name, image=[b"none"] * 4)


def test_an_environment_of_its_own(server, client, photographs, tmp_path):
    python = make_python(tmp_path / "python")
    name = served(server, client, "edge", "--name", "apart", "--no-plain", "--environment", python)
    assert rows(infer(client, name, image=photographs[:1])) == scored("edge", photographs[:1])
    shutil.rmtree(python)
    client.unload_model(name)
    with pytest.raises(refusal()):
        client.load_model(name)


def test_untrained_weights_are_said_in_the_log_and_texts_arrive_whole(server, client, artefact):
    faithful = "with 'single' and \"double\" quotes, \\, ü and \N{EN DASH}"
    path = artefact("untrained", trained=False, faithful=faithful)
    name = served(server, client, path, "--no-plain")
    assert "untrained (random weights)" in server.said()
    contract = client.get_model_config(name)["parameters"][METADATA_KEY]["string_value"]
    assert contract_from_json(contract).faithful == faithful


def test_what_cannot_be_loaded_is_said(server, client, artefact, tmp_path):
    name = served(server, client, artefact("one"), "--no-plain")
    artefact("one", above=0.5).replace(server.repository / name / "1" / "one.onnx")
    with pytest.raises(refusal(), match="another file than its configuration describes"):
        client.load_model(name)
    plan = tmp_path / "x.plan"
    plan.write_bytes(CONTENT)
    description_path(plan).write_bytes(described(tiny_contract(24)).to_json())
    assert invoke(main, plan, "--repository", server.repository).exit_code == 0
    with pytest.raises(refusal()):  # here for want of a GPU
        client.load_model("x")
    with pytest.raises(refusal(), match="backend 'tensorrt'"):
        client.load_model("x_crops")
