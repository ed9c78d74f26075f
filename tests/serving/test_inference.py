"""The Open Inference Protocol, asked by Triton's client."""

import base64
import json

import numpy as np
import pytest

triton = pytest.importorskip("tritonclient.http")

pytestmark = pytest.mark.serve


@pytest.fixture
def client_of():
    """Make a client of a server; all are closed at the end."""
    clients = []

    def make(server):
        clients.append(triton.InferenceServerClient(server.url.removeprefix("http://")))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def tensor(*pictures, name="image", shape=None):
    made = triton.InferInput(name, list(shape or [len(pictures)]), "BYTES")
    made.set_data_from_numpy(np.array(pictures, object).reshape(shape or [len(pictures)]), binary_data=True)
    return made


def test_health_and_metadata(serve, artefact, client_of):
    with serve({"nr": artefact(), "fr": artefact("pair", task="fr")}) as server:
        client = client_of(server)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("nr")
        assert client.is_model_ready("nr", "1")
        assert not client.is_model_ready("other")
        assert not client.is_model_ready("nr", "2")
        assert client.get_server_metadata()["name"] == "iqa-serve"
        described = client.get_model_metadata("fr")
        assert [each["name"] for each in described["inputs"]] == ["image", "reference"]
        assert {each["name"]: each["datatype"] for each in described["outputs"]} == {"score": "FP64", "row": "BYTES"}
        assert described["parameters"]["artefact"] == server.service.batchers["fr"].scorer.artefact_key


@pytest.mark.parametrize("binary", [True, False])
def test_scores_are_those_of_post_score(serve, artefact, picture, client_of, binary):
    pictures = [picture(seed) for seed in range(3)]
    with serve(artefact()) as server:
        expected = [server.post(content=each).json() for each in pictures]
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("row", "score")]
        result = client_of(server).infer("mean", [tensor(*pictures)], outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("score").tolist() == [row["score"] for row in expected]
        rows = [json.loads(row) for row in result.as_numpy("row").tolist()]
        assert [row | {"milliseconds": None} for row in rows] == [row | {"milliseconds": None} for row in expected]


def test_shapes_references_and_failures(serve, artefact, picture, client_of):
    one, other = picture(0), picture(1)
    with serve({"nr": artefact(), "fr": artefact("pair", task="fr")}) as server:
        client = client_of(server)
        result = client.infer("nr", [tensor(one, b"none", other, shape=(3, 1))])
        scores = result.as_numpy("score")
        assert scores.shape == (3, 1)
        assert np.isnan(scores[:, 0]).tolist() == [False, True, False]
        assert "no image" in json.loads(result.as_numpy("row")[1, 0])["error"]
        pair = client.infer("fr", [tensor(one, other), tensor(one, name="reference")]).as_numpy("score")
        expected = server.post("/score?artefact=fr", files={"image": other, "reference": one}).json()["score"]
        assert pair.tolist() == [0.0, expected]
        for inputs, word in (
            ([tensor(b"none")], "no image"),
            ([tensor(one), tensor(one, name="reference")], "takes image"),
            ([tensor(one, name="picture")], "takes image"),
        ):
            with pytest.raises(triton.InferenceServerException, match=word):
                client.infer("nr", inputs)
        with pytest.raises(triton.InferenceServerException, match="'other'"):
            client.infer("nr", [tensor(one)], outputs=[triton.InferRequestedOutput("other")])
        with pytest.raises(triton.InferenceServerException, match="content coding"):
            client.infer("nr", [tensor(one)], request_compression_algorithm="gzip")


def test_images_as_base64_in_json(serve, artefact, picture):
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(picture()).decode()]}
    with serve(artefact()) as server:
        answer = server.post("/v2/models/mean/infer", json={"inputs": [image], "outputs": [{"name": "score"}]})
        assert answer.json()["outputs"][0]["data"] == [server.post(content=picture()).json()["score"]]
        twice = server.post("/v2/models/mean/infer", json={"inputs": [image], "outputs": [{"name": "score"}] * 2})
        assert (twice.status_code, twice.json()["detail"]) == (400, "an output is asked for twice; ask for each once")
        wrong = server.post("/v2/models/mean/infer", json={"inputs": []})
        assert wrong.status_code == 400
        assert wrong.json()["error"] == wrong.json()["detail"]
