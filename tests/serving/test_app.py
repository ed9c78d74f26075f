"""Who is let in, and what answers what is not there."""

import pytest

pytestmark = pytest.mark.serve

TOKEN = "correct-horse-battery"


def test_a_token_is_asked_for(serve, artefact, picture, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    with serve(artefact(), token_file=file) as server:
        for given in (None, "Bearer wrong-horse-battery", f"Basic {TOKEN}", "Bearer", "Bearer \xff"):
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            for path in ("/score", "/metrics", "/v2/models/mean", "/nowhere"):
                refused = server.post(path, content=picture(), headers=headers)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        assert server.post(content=picture(), headers=allowed).status_code == 200
        assert server.client.get("/v2/health/live").status_code == 200


def test_what_is_not_there_is_a_problem(serve, artefact):
    with serve(artefact()) as server:
        for method, path, status in (("GET", "/nowhere", 404), ("GET", "/score", 405), ("DELETE", "/v2", 405)):
            answer = server.client.request(method, path)
            assert (answer.status_code, answer.json()["status"]) == (status, status)
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_surprise_is_a_problem_without_its_words(serve, artefact, picture, monkeypatch):
    with serve(artefact()) as server:

        def surprised(*_):
            raise RuntimeError("inner words")

        monkeypatch.setattr(server.service.batchers["mean"], "submit", surprised)
        answer = server.post(content=picture())
        assert (answer.status_code, "inner" in answer.text) == (500, False)
        monkeypatch.undo()
        assert server.post(content=picture()).status_code == 200


def test_numbers_for_prometheus(serve, artefact, picture):
    with serve(artefact()) as server:
        server.post("/score/batch", files=[("image", picture()), ("image", b"none")])
        server.client.get("/nowhere")
        text = server.client.get("/metrics").text
    for line in (
        'iqa_images_total{artefact="mean",outcome="scored"} 1.0',
        'iqa_images_total{artefact="mean",outcome="failed"} 1.0',
        'iqa_requests_total{endpoint="score_batch",status="200"} 1.0',
        'iqa_requests_total{endpoint="none",status="404"} 1.0',
        "iqa_requests_under_way 0.0",
    ):
        assert line in text.splitlines(), text
