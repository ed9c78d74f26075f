"""A scorer in other processes: forked, spawned, forked from a server; their scores have the parent's bits."""

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import textwrap
import urllib.request

import numpy as np
import pytest

from iqa_runtime import ArtefactError, Scorer, UsageError

SECONDS = 120
"""Far more than any of these takes: a child that waits for threads which it has not would wait for ever."""

START = """
import multiprocessing, os, sys, warnings
import numpy as np
from iqa_runtime import Scorer

# Python 3.12 and later warn of every fork beside threads; that it goes well is what is tested.
warnings.simplefilter("ignore", DeprecationWarning)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8) for seed in range(6)]


def score(scorer, pictures):
    return [result.value.hex() for result in scorer.score_many(pictures)]


def main(path, backend, *others):
    scorer = Scorer(path, threads=2, backend=backend)
    before = score(scorer, PICTURES)
"""


def run(folder, body, *arguments):
    """Run a program that compares scores of processes; it says what went well."""
    program = folder / "program.py"
    text = (
        START
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\n\nif __name__ == '__main__':\n    main(*sys.argv[1:])\n"
    )
    program.write_text(text, encoding="utf-8")
    command = [sys.executable, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FORKED = """
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = score(scorer, PICTURES) == before == [scorer.score(picture).value.hex() for picture in PICTURES]
            os._exit(0 if same else 3)
        children.append(child)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
    print(score(scorer, PICTURES) == before)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it cannot fork")


@pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=[pytest.mark.openvino, pytest.mark.slow])]
)
def test_children_of_a_used_scorer_go_on(artefacts, tmp_path, backend):
    assert run(tmp_path, FORKED, artefacts.deep(), backend) == ["0", "0", "0", "0", "True"]


def test_a_child_of_a_child_goes_on(artefacts, tmp_path):
    body = """
        child = os.fork()
        if child == 0:
            score(scorer, PICTURES)
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if score(scorer, PICTURES) == before else 3)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime") == ["0"]


def test_closing_in_a_child_leaves_the_parent_its_scorer(artefacts, tmp_path):
    body = """
        child = os.fork()
        if child == 0:
            scorer.close()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), score(scorer, PICTURES) == before)
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime") == ["0", "True"]


@pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=[pytest.mark.openvino, pytest.mark.slow])]
)
def test_children_that_end_by_themselves_wait_for_no_thread_of_the_parent(artefacts, tmp_path, backend):
    """Not by way of os._exit: destructors of libraries run, and join the threads they know of."""
    body = """
        children = []
        for work in (lambda: None, lambda: score(scorer, PICTURES), scorer.close):
            child = os.fork()
            if child == 0:
                work()
                return
            children.append(child)
        print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
    """
    assert run(tmp_path, body, artefacts.deep(), backend) == ["0", "0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can end a process so with its exit code")
def test_what_libraries_of_the_parent_do_at_its_end_is_not_done_by_children(artefacts, tmp_path):
    """A library that aborts there stands for all that join threads; what C code has printed is not lost."""
    body = """
        import atexit, ctypes
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)
        child = os.fork()
        if child == 0:
            atexit.register(print, "Python")
            libc.printf(b"C ")
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        os._exit(0)
    """
    assert sorted(run(tmp_path, body, artefacts.deep(), "onnxruntime")) == ["7", "C", "Python"]


def test_references_that_threads_were_reading_are_not_waited_for(artefacts, tmp_path):
    """The child forgets a reference whose decoding began in a thread that it has not."""
    body = """
        from concurrent.futures import Future
        scorer = Scorer(others[0], threads=2)
        cv2 = __import__("cv2")
        reference = os.path.join(os.path.dirname(__file__), "reference.png")
        cv2.imwrite(reference, PICTURES[0])
        expected = scorer.score(PICTURES[1], reference).value
        store = scorer._preparer._references
        key = next(iter(store._entries))
        store._entries[key] = Future()
        store._lock.acquire()
        child = os.fork()
        if child == 0:
            os._exit(0 if scorer.score(PICTURES[1], reference).value == expected else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime", artefacts.cached()) == ["0"]


def test_images_whose_time_is_over_in_the_parent_are_not_waited_for(artefacts, tmp_path):
    """The child has none of the threads, and counts none of them."""
    body = """
        import threading
        from iqa_runtime.scoring import time_limits

        released = threading.Event()
        scorer = Scorer(path, threads=2, timeout=3600)
        limit = scorer._preparer._limit
        limit._seconds = 0.0
        for _ in range(time_limits.MAX_OVERDUE):
            try:
                limit.call(released.wait)
            except TimeoutError:
                pass
        limit._seconds = 3600
        limit._changed.acquire()
        child = os.fork()
        if child == 0:
            same = scorer.overdue == 0 and score(scorer, PICTURES) == before
            os._exit(0 if same else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), scorer.overdue)
        released.set()
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime") == ["0", "16"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_scorer_travels_to_the_processes_of_a_pool(artefacts, tmp_path, method):
    body = f"""
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            results = pool.starmap(score, [(scorer, PICTURES[:3]), (scorer, PICTURES[3:])])
        print(results[0] + results[1] == before)
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime") == ["True"]


SERVICE = """
import json, os, sys
import numpy as np
from iqa_runtime import Scorer

pictures = [np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8) for seed in range(6)]
scorer = Scorer(sys.path[0] + "/deep.onnx", threads=2, timeout=3600)
opened_by = os.getpid()


def score():
    several = [result.value.hex() for result in scorer.score_many(pictures)]
    return several + [scorer.score(picture).value.hex() for picture in pictures]


before = score()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid() != opened_by, score() == before]).encode()]
"""


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_in_the_workers_of_a_service_that_is_loaded_before_they_are_forked(artefacts, tmp_path, worker):
    pytest.importorskip("gunicorn")
    artefacts.deep().rename(tmp_path / "deep.onnx")
    (tmp_path / "service.py").write_text(SERVICE, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--timeout=0"]
        command += [f"--worker-class={worker}", f"--chdir={tmp_path}", f"--bind=fd://{listening.fileno()}"]
        process = subprocess.Popen(
            [*command, "service:app"],
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HOME": str(tmp_path)},  # where it keeps a socket
        )
        try:
            # Who connects before there is a worker is answered by the first.
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            answers = []
            for _ in range(6):
                with urllib.request.urlopen(address, timeout=SECONDS) as response:
                    answers.append(json.load(response))
            process.terminate()
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert (answers, process.returncode) == ([[True, True]] * 6, 0), err
    assert not re.search("Traceback|terminate called|was sent SIG", err), err


@pytest.mark.slow
def test_in_the_workers_of_a_data_loader(artefacts, tmp_path):
    body = """
        import torch.utils.data

        class Scores(torch.utils.data.Dataset):
            def __len__(self):
                return len(PICTURES)

            def __getitem__(self, index):
                return scorer.score(PICTURES[index]).value

        loader = torch.utils.data.DataLoader(Scores(), num_workers=2, batch_size=None)
        print([float(value).hex() for value in loader] == before)
    """
    assert run(tmp_path, body, artefacts.deep(), "onnxruntime") == ["True"]


def test_a_pickled_scorer_is_opened_again_from_its_arguments(artefacts):
    path = artefacts.mapped()
    picture = np.full((70, 90, 3), 100, np.uint8)
    with Scorer(path, threads=3, crops="grid:16", maps=True, batch_size=5) as scorer:
        with pickle.loads(pickle.dumps(scorer)) as other:
            assert (other.threads, other.batch_size, other.patch_plan) == (3, 5, scorer.patch_plan)
            assert other.score(picture) == scorer.score(picture)
            assert other.score(picture).map is not None
        travelling = pickle.dumps(scorer)
    path.write_bytes(artefacts.mean().read_bytes())
    with pytest.raises(ArtefactError, match="another file than the one that was opened first"):
        pickle.loads(travelling)
    with pytest.raises(UsageError, match="closed"):
        pickle.dumps(scorer)
