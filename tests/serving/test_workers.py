"""Servers as processes: signals, workers that are killed, what is said."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from command_line import invoke
from eventually import DEADLINE, eventually
from iqa_serve import started, workers_of
from iqa_serving.commands.serve import main
from iqa_serving.metrics import FOLDER_VARIABLE
from iqa_serving.settings import Settings
from iqa_serving.workers import Supervisor, listen

pytestmark = [pytest.mark.serve, pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")]


def test_every_request_under_way_is_answered_after_sigterm(artefact, picture):
    files = [("image", picture(seed, (200, 300))) for seed in range(3)]
    with (
        started(artefact(), "--crops", "grid:12") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE) as client,
    ):
        server.heard("ready: mean")
        with ThreadPoolExecutor(6) as clients:
            sent = [clients.submit(client.post, "/score/batch", files=files) for _ in range(6)]
            eventually(lambda: "iqa_requests_under_way 6.0" in client.get("/metrics").text)
            server.process.send_signal(signal.SIGTERM)
            answers = [each.result(DEADLINE) for each in sent]
        assert [answer.status_code for answer in answers] == [200] * 6
        assert all(row["error"] is None for answer in answers for row in answer.json())
        assert server.process.wait(DEADLINE) == 0


def numbers_of(worker):
    """Return the folder where a worker keeps its numbers."""
    environment = dict(
        each.split(b"=", 1) for each in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0") if each
    )
    return Path(environment[FOLDER_VARIABLE.encode()].decode())


@pytest.mark.slow
def test_workers_share_the_work_are_replaced_reload_and_end(artefact, picture):
    path = artefact()
    content = picture()
    with started(path, "--workers", "2") as server:
        first, second = (server.heard("ready: mean") for _ in range(2))
        assert first == second
        score = httpx.post(f"{server.url}/score", content=content, timeout=DEADLINE).json()["score"]
        killed, kept = server.workers()
        os.kill(killed, signal.SIGKILL)
        server.heard("by signal 9")
        assert httpx.post(f"{server.url}/score", content=content, timeout=DEADLINE).json()["score"] == score
        server.heard("ready: mean")
        eventually(lambda: len(server.workers()) == 2)
        assert kept in server.workers()
        requests = 'iqa_requests_total{endpoint="score",status="200"} 2.0'
        assert requests in httpx.get(f"{server.url}/metrics", timeout=DEADLINE).text
        assert {path.stem.rpartition("_")[2] for path in numbers_of(kept).iterdir()} <= {"0", "1"}
        artefact(above=0.5)
        server.process.send_signal(signal.SIGHUP)
        assert server.heard("reloaded") == server.heard("reloaded")
        above = httpx.post(f"{server.url}/score", content=content, timeout=DEADLINE).json()["score"]
        assert above - score == pytest.approx(0.5, abs=1e-6)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(artefact):
    with started(artefact(), "--workers", "1") as server:
        server.heard("ready: mean")
        assert server.workers() == []
    with started(artefact(), "--workers", "2") as server:
        for _ in range(2):
            server.heard("ready: mean")
        workers = server.workers()
        server.process.kill()
        eventually(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in workers))  # noqa: PTH110


@pytest.mark.slow
def test_what_cannot_be_opened_ends_the_workers_and_the_command(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no artefact")
    with started(tmp_path / "a.onnx", "--workers", "2") as server:
        server.heard("not an ONNX file")
        assert server.process.wait(DEADLINE) == 2


class Deadly:
    """Words that end the process that they travel to."""

    def __reduce__(self):
        return os._exit, (7,)


@pytest.fixture
def supervising(monkeypatch):
    """Let a supervisor run in this process; signals and environment are as before at the end."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setenv(FOLDER_VARIABLE, "restored after the test")
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("supervising")
def test_workers_that_cannot_begin_are_not_begun_for_ever(capsys):
    settings = Settings(artefacts={"edge": "edge"}, words=Deadly())
    assert Supervisor(settings, listen("127.0.0.1", 0), 1).run() == 1
    assert "before it could serve (with exit code 7)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("supervising")
def test_a_worker_that_gives_no_sign_of_life_is_replaced(artefact, capsys):
    settings = Settings(artefacts={"mean": str(artefact())}, scoring={"threads": 1}, grace=DEADLINE)
    listening = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v2/health/ready"

    def stop_the_first():
        try:
            assert httpx.get(url, timeout=DEADLINE).status_code == 200
            [first] = workers_of(os.getpid())
            os.kill(first, signal.SIGSTOP)
            assert httpx.get(url, timeout=DEADLINE).status_code == 200
            assert first not in workers_of(os.getpid())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as thread:
        stopped = thread.submit(stop_the_first)
        assert Supervisor(settings, listening, 1, silence=5.0).run() == 0
        stopped.result(DEADLINE)
    assert "a worker has given no sign of life for 5 s; it is killed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.onnx"], "none.onnx"),
        (["edge", "edge=lpips"], "a second artefact called edge"),
        (["a/b=edge"], "cannot stand in an address"),
        (["edge", "--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["edge", "--grace", "0"], "--grace"),
        (["edge", "--token-file", "none"], "none: cannot read the token"),
        ([], "ARTEFACT"),
    ],
)
def test_what_cannot_be_served_is_said_on_one_line(arguments, words):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    result = invoke(main, *arguments, "--port", "0")
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
