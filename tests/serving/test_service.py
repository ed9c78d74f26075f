"""What is served, and what changes when it is opened anew."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from changed_backend import onnx_runtime_with
from eventually import DEADLINE, eventually
from iqa_runtime import FileError, UsageError
from iqa_serving.service import Service
from iqa_serving.settings import Settings
from iqa_serving.workers import listen, serve_here


def settings_of(path, **others):
    return Settings(artefacts={"mean": str(path)}, scoring={"threads": 1}, **others)


@pytest.mark.serve
def test_reloading_serves_what_is_there_now_and_ends_what_was_begun(serve, artefact, picture):
    begun, go_on = threading.Event(), threading.Event()

    def held(run):
        begun.set()
        assert go_on.wait(DEADLINE)
        return run()

    path = artefact()
    scoring = {"backend": onnx_runtime_with(held), "threads": 1}
    with serve(path, scoring=scoring) as server, ThreadPoolExecutor(2) as clients:
        former = clients.submit(server.post, content=picture())
        assert begun.wait(DEADLINE)
        key = server.service.batchers["mean"].scorer.artefact_key
        artefact(above=0.5)
        reloaded = clients.submit(asyncio.run, server.service.reload())
        while server.service.batchers["mean"].scorer.artefact_key == key:
            assert not reloaded.done()
        go_on.set()
        reloaded.result(DEADLINE)
        latter = server.post(content=picture()).json()
        assert former.result(DEADLINE).json()["artefact"] == key != latter["artefact"]
        assert latter["score"] - former.result().json()["score"] == pytest.approx(0.5, abs=1e-6)


def test_what_cannot_be_opened_changes_nothing(artefact, picture, tmp_path):
    path, token = artefact(), tmp_path / "token"
    token.write_text("x" * 20)
    service = Service(settings_of(path, token_file=token))
    before = service.batchers["mean"]
    path.write_bytes(b"no artefact")
    token.write_text("y" * 20)
    with pytest.raises(Exception, match="not an ONNX file"):
        asyncio.run(service.reload())
    assert (service.batchers["mean"], service.token) == (before, b"x" * 20)
    assert before.submit(picture()).result(DEADLINE).error is None
    artefact()
    asyncio.run(service.reload())
    assert (service.batchers["mean"] is before, service.token) == (False, b"y" * 20)
    service.close()


@pytest.mark.parametrize("text", ["", "short", "two words of length", "ä" * 20])
def test_a_token_must_be_one(artefact, tmp_path, text):
    token = tmp_path / "token"
    token.write_text(text)
    with pytest.raises(UsageError, match="no token"):
        Service(settings_of(artefact(), token_file=token))
    with pytest.raises(FileError, match="cannot read the token"):
        Service(settings_of(artefact(), token_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "changes",
    [
        {"artefacts": {}},
        {"queue": 0},
        {"pixel_budget": 0},
        {"stall_timeout": 0},
        {"body_limit": True},
        {"batch_limit": 1.5},
        {"grace": 0},
        {"body_timeout": "1"},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        Settings(**({"artefacts": {"a": "edge"}} | changes))


@pytest.mark.serve
def test_a_process_whose_model_hangs_is_unhealthy_and_gives_itself_up(artefact, picture):
    begun, go_on = threading.Event(), threading.Event()

    def held(run):
        begun.set()
        assert go_on.wait(DEADLINE)
        return run()

    settings = Settings(
        artefacts={"mean": str(artefact())},
        scoring={"backend": onnx_runtime_with(held), "threads": 1},
        stall_timeout=0.1,
        grace=0.1,
    )
    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with ThreadPoolExecutor(2) as threads:
        ended = threads.submit(serve_here, settings, listening)
        try:
            hung = threads.submit(httpx.post, f"{url}/score", content=picture(), timeout=DEADLINE)
            assert ended.result(DEADLINE) == 1
            assert hung.result(DEADLINE).status_code == 500
        finally:
            go_on.set()
    assert begun.is_set()


@pytest.mark.serve
def test_a_model_that_hangs_is_bad_health_before_it_is_the_end(serve, artefact, picture):
    begun, go_on = threading.Event(), threading.Event()

    def held(run):
        begun.set()
        assert go_on.wait(DEADLINE)
        return run()

    scoring = {"backend": onnx_runtime_with(held), "threads": 1}
    with serve(artefact(), scoring=scoring, stall_timeout=0.1) as server, ThreadPoolExecutor(1) as clients:
        assert server.client.get("/v2/health/live").status_code == 200
        sent = clients.submit(server.post, content=picture())
        eventually(lambda: server.client.get("/v2/health/live").status_code == 503)
        assert server.service.is_lost()
        go_on.set()
        assert sent.result(DEADLINE).status_code == 200
        eventually(lambda: server.client.get("/v2/health/live").status_code == 200)
        assert not server.service.is_lost()
