"""Images over HTTP: their rows are those of iqa-run, and what is wrong costs nobody else."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from changed_backend import onnx_runtime_with
from eventually import DEADLINE, eventually
from iqa_run import lines, run
from iqa_runtime.commands.rows import KEYS
from iqa_runtime.errors import BackendError, ResourceError

pytestmark = pytest.mark.serve


def untimed(row):
    return {key: value for key, value in row.items() if key != "milliseconds"}


@pytest.fixture
def folder(tmp_path, picture, monkeypatch):
    """A folder with pictures of several formats, and files that are none, which is also where we are."""
    for seed, suffix in enumerate((".png", ".jpg", ".webp", ".bmp", ".tiff", ".png")):
        (tmp_path / f"{seed}{suffix}").write_bytes(picture(seed, (40 + seed, 56), suffix))
    (tmp_path / "none.png").write_bytes(b"no picture")
    (tmp_path / "cut.jpg").write_bytes(picture(9, (64, 64), ".jpg")[:-400])
    (tmp_path / "small.png").write_bytes(picture(8, (8, 8)))  # less than a crop
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_are_those_of_iqa_run(serve, artefact, folder):
    path = artefact()
    names = sorted(each.name for each in folder.iterdir() if each.suffix != ".onnx")
    expected = [untimed(row) for row in lines(run(path, *names, "--format", "jsonl").stdout)]
    assert sum(row["error"] is not None for row in expected) == 2
    with serve(path) as server:
        files = [("image", (name, (folder / name).read_bytes())) for name in names]
        together = server.post("/score/batch", files=files)
        assert together.status_code == 200
        assert [untimed(row) for row in together.json()] == expected
        assert list(together.json()[0]) == list(KEYS)
        for name, row in zip(names, expected, strict=True):
            alone = server.post(files={"image": (name, (folder / name).read_bytes())})
            if row["error"] is None:
                assert (alone.status_code, untimed(alone.json())) == (200, row)
            else:
                assert (alone.status_code, alone.json()["detail"]) == (422, row["error"])
        raw = server.post(content=(folder / "0.png").read_bytes())
        assert untimed(raw.json()) == expected[names.index("0.png")] | {"path": None}


def test_references_go_with_their_images(serve, artefact, folder):
    path = artefact("pair", task="fr")
    expected = [run(path, name, "--reference", "0.png", "--format", "jsonl").stdout for name in ("0.png", "5.png")]
    scores = [json.loads(line)["score"] for line in expected]
    pictures = [(folder / name).read_bytes() for name in ("0.png", "5.png")]
    same_size = pictures[0]
    with serve(path) as server:
        images = [("image", ("a", picture)) for picture in (same_size, same_size)]
        shared = server.post("/score/batch", files=[*images, ("reference", ("r", pictures[0]))]).json()
        assert [row["score"] for row in shared] == [scores[0]] * 2
        each = server.post("/score/batch", files=[*images, *[("reference", ("r", one)) for one in pictures]]).json()
        assert each[0]["score"] == scores[0]
        assert "equal sizes" in each[1]["error"]
        assert scores[1] is None
        wrong = server.post("/score/batch", files=[images[0], ("reference", ("r.png", b"none"))]).json()
        assert (wrong[0]["path"], wrong[0]["error"].startswith("r.png: ")) == ("a", True)
        few = server.post("/score/batch", files=[*images, images[0], *[("reference", ("r", one)) for one in pictures]])
        assert (few.status_code, "2 references for 3 images" in few.json()["detail"]) == (400, True)
        for options in ({"content": same_size}, {"files": {"image": same_size}}):
            answer = server.post(**options)
            assert (answer.status_code, "reference" in answer.json()["detail"]) == (400, True)
    with serve(artefact()) as server:
        needless = server.post(files={"image": same_size, "reference": same_size})
        assert (needless.status_code, "takes no reference" in needless.json()["detail"]) == (400, True)


def test_many_clients_at_once_get_the_scores_of_each_alone(serve, artefact, picture):
    pictures = [picture(seed, (40, 40 + seed)) for seed in range(12)]
    with serve(artefact()) as server:
        alone = [server.post(content=each).json()["score"] for each in pictures]
        assert len(set(alone)) == len(pictures)
        with ThreadPoolExecutor(12) as clients:
            sent = [clients.submit(server.post, content=each) for each in [*pictures, b"none", *pictures]]
            answers = [each.result() for each in sent]
        assert [each.json().get("score") for each in answers] == [*alone, None, *alone]
        assert [each.status_code for each in answers] == [200] * 12 + [422] + [200] * 12


def test_who_comes_when_all_slots_are_taken_is_told_to_ask_again(serve, artefact, picture):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def held(run):
        begun.release()
        assert go_on.wait(DEADLINE)
        return run()

    scoring = {"backend": onnx_runtime_with(held), "threads": 1}
    with serve(artefact(), queue=2, scoring=scoring) as server, ThreadPoolExecutor(2) as clients:
        first = clients.submit(server.post, content=picture(0))
        assert begun.acquire(timeout=DEADLINE)
        second = clients.submit(server.post, content=picture(1))
        eventually(lambda: b"iqa_requests_under_way 2.0" in server.service.metrics.exposition())
        refused = server.post(content=picture(2))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert server.client.get("/v2/health/ready").status_code == 200
        go_on.set()
        assert [each.result().status_code for each in (first, second)] == [200, 200]
        assert server.post(content=picture(2)).status_code == 200


def test_images_whose_client_has_gone_are_not_scored(serve, artefact, picture):
    begun, go_on, runs = threading.Event(), threading.Event(), []

    def held(run):
        begun.set()
        assert go_on.wait(DEADLINE)
        runs.append(None)
        return run()

    scoring = {"backend": onnx_runtime_with(held), "threads": 1}
    with serve(artefact(), scoring=scoring, queue=8) as server, ThreadPoolExecutor(2) as clients:
        # A round for each of the two lanes, so that what comes next has to wait.
        waiting = [clients.submit(server.post, content=picture(seed)) for seed in range(2)]
        assert begun.wait(DEADLINE)
        with pytest.raises(httpx.ReadTimeout):
            server.post("/score/batch", files=[("image", picture(3))] * 40, timeout=0.5)
        eventually(lambda: b"iqa_requests_under_way 2.0" in server.service.metrics.exposition())
        go_on.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert server.post(content=picture(4)).status_code == 200
    assert len(runs) < 5 * 40


def test_a_model_that_fails_is_a_fault_of_the_server(serve, artefact, picture):
    def broken(_):
        raise BackendError("the model has no mind to")

    with serve(artefact(), scoring={"backend": onnx_runtime_with(broken)}) as server:
        answer = server.post(content=picture())
        assert (answer.status_code, "no mind to" in answer.json()["detail"]) == (500, True)


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [("?artefact=b", 200, None), ("", 400, "several artefacts are served (a, b)"), ("?artefact=c", 404, "'c'")],
)
def test_one_of_several_artefacts_is_named(serve, artefact, picture, name, status, word):
    both = {"a": artefact("a", above=0.25), "b": artefact("b", above=0.5)}
    with serve(both) as server:
        answer = server.post(f"/score{name}", content=picture())
        assert answer.status_code == status
        if status == 200:
            other = server.post("/score?artefact=a", content=picture()).json()["score"]
            assert answer.json()["score"] - other == pytest.approx(0.25, abs=1e-6)
        else:
            assert word in answer.json()["detail"]


def test_limits_of_pixels_and_of_images(serve, artefact, picture):
    with serve(artefact(), scoring={"pixel_limit": 2000}, batch_limit=3) as server:
        assert server.post(content=picture(0, (40, 50))).status_code == 200
        large = server.post(content=picture(0, (40, 51)))
        assert (large.status_code, "over the limit of 2000" in large.json()["detail"]) == (422, True)
        files = [("image", picture(0, (30, 30)))]
        assert len(server.post("/score/batch", files=files * 3).json()) == 3
        assert server.post("/score/batch", files=files * 4).status_code == 413
        assert server.post(files=files * 2).status_code == 413


def test_who_comes_when_memory_or_threads_are_short_is_told_to_ask_again(serve, artefact, picture, monkeypatch):
    def short(*_, **__):
        raise MemoryError

    with serve(artefact()) as server:
        with monkeypatch.context() as patched:
            patched.setattr("iqa_runtime.scoring.preparation.load_with_color", short)
            alone = server.post(files={"image": ("a.png", picture())})
            assert (alone.status_code, alone.headers["retry-after"]) == (503, "1")
            assert "not enough memory" in alone.json()["detail"]
            several = server.post("/score/batch", files=[("image", picture())] * 2)
            assert [("not enough memory" in row["error"]) for row in several.json()] == [True, True]
        with monkeypatch.context() as patched:
            patched.setattr(
                server.service.batchers["mean"].scorer,
                "score_many",
                lambda *_: (_ for _ in ()).throw(ResourceError("no further thread can be started")),
            )
            assert server.post(content=picture()).status_code == 503
        assert server.post(content=picture()).status_code == 200


def test_what_breaks_for_one_image_costs_no_other_of_its_request(serve, artefact, picture, monkeypatch):
    with serve(artefact()) as server:
        scorer, poison = server.service.batchers["mean"].scorer, picture(99)
        stream = scorer.score_many

        def breaking(images, references=None):
            taken = list(images)
            if any(each.read() == poison for each in taken):
                raise KeyError("inner")
            return stream(taken, references)

        monkeypatch.setattr(scorer, "score_many", breaking)
        files = [("image", (name, content)) for name, content in (("a", picture(0)), ("b", poison), ("c", picture(1)))]
        rows = server.post("/score/batch", files=files).json()
    assert [row["score"] is None for row in rows] == [False, True, False]
    assert rows[1]["path"] == "b"
    assert rows[1]["error"].startswith("b: cannot be scored (KeyError")
