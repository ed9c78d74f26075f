"""The page at ``/`` and what it asks for, over HTTP."""

import base64
import hashlib
import re

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.serve

WHAT_VARIES = ("milliseconds", "reasons", "measures", "path")


def same(row):
    return {key: value for key, value in row.items() if key not in WHAT_VARIES}


def decoded(address):
    head, _, data = address.partition(",")
    assert re.fullmatch(r"data:image/(webp|jpeg);base64", head)
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def test_the_page_is_for_everybody_and_what_it_asks_for_is_not(serve, artefact, picture, tmp_path):
    token = tmp_path / "token"
    token.write_text("correct-horse-battery")
    with serve({"secret name": artefact()}, token_file=token) as server:
        page = server.client.get("/")
        assert (page.status_code, "secret" in page.text) == (200, False)
        assert server.client.get("/page/artefacts").status_code == 401
        assert server.post("/page/score", files={"image": picture()}).status_code == 401
        allowed = {"Authorization": "Bearer correct-horse-battery"}
        [only] = server.client.get("/page/artefacts", headers=allowed).json()["artefacts"]
        assert (only["name"], only["about"]["heading"]) == ("secret name", "Image quality by m v")


def test_its_policy_lets_in_its_own_script_and_its_own_server(serve, artefact):
    with serve(artefact()) as server:
        page = server.client.get("/")
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = page.text[page.text.rindex("<script>") + len("<script>") : page.text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["connect-src"], rules["img-src"]) == ("'none'", "'self'", "data:")


def test_scores_are_those_of_post_score_with_pictures_and_reasons(serve, picture):
    content = picture(0, (300, 400), ".jpg")
    with serve({"edge": "edge"}) as server:
        alone = server.post(content=content).json()
        shown = server.post("/page/score", files={"image": ("a.jpg", content)}).json()
        numbers = server.client.get("/metrics").text
    assert 'iqa_requests_total{endpoint="score",status="200"} 1.0' in numbers
    assert 'iqa_requests_total{endpoint="page_score",status="200"} 1.0' in numbers
    assert same(shown["row"]) == same(alone)
    assert "noise" in shown["row"]["reasons"]
    assert decoded(shown["thumbnail"]).shape[1] == 208
    assert decoded(shown["picture"]).shape == (300, 400, 3)
    assert decoded(shown["beside"]["heat map"]["picture"]).size
    assert shown["beside"]["heat map"]["worst"] < shown["beside"]["heat map"]["best"]


def test_references_lie_beside_and_errors_are_problems(serve, artefact, picture):
    with serve({"fr": artefact("pair", task="fr")}) as server:
        both = server.post("/page/score", files={"image": picture(0), "reference": picture(1)}).json()
        assert decoded(both["beside"]["reference"]["picture"]).shape == (40, 56, 3)
        alone = server.post("/page/score", files={"image": picture(0)})
        assert (alone.status_code, "reference" in alone.json()["detail"]) == (400, True)
        broken = server.post("/page/score", files={"image": b"none", "reference": picture(1)})
        assert (broken.status_code, broken.headers["content-type"]) == (422, "application/problem+json")


def test_it_scores_with_the_file_that_is_served_or_not_at_all(serve, artefact, picture):
    with serve(artefact()) as server:
        artefact(above=0.5)
        changed = server.post("/page/score", files={"image": picture()})
        assert (changed.status_code, "SIGHUP" in changed.json()["detail"]) == (500, True)


def test_it_can_be_left_out(serve, artefact, picture):
    with serve(artefact(), page=False) as server:
        assert server.client.get("/").status_code == 404
        assert server.post("/page/score", files={"image": picture()}).status_code == 404
