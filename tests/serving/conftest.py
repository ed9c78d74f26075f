"""Servers on real sockets of this machine, artefacts of a few nodes, and pictures for them."""

import threading
from contextlib import contextmanager

import cv2
import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from eventually import DEADLINE
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_serving.app import create_app
from iqa_serving.server import Server
from iqa_serving.service import Service
from iqa_serving.settings import Settings
from iqa_serving.workers import listen
from tiny_contract import tiny_contract

SIDE = 24


@pytest.fixture
def artefact(tmp_path):
    """Write an artefact whose score is a constant above the mean of a crop, or of its difference to a reference."""

    def write(name="mean", *, task="nr", above=0.0, **contract):
        reads = ["image"] if task == "nr" else ["image", "reference"]
        nodes = [
            *([helper.make_node("Sub", reads, ["difference"])] if task == "fr" else []),
            helper.make_node("ReduceMean", ["difference" if task == "fr" else "image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "above"], ["score"]),
        ]
        shape = ("batch", 3, SIDE, SIDE)
        constants = {"axes": np.array([1, 2, 3]), "above": np.array(above, np.float32)}
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in reads],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch",))],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / f"{name}.onnx"
        embed_contract(model, tiny_contract(SIDE, task, **contract))
        save(model, path)
        return path

    return write


@pytest.fixture(scope="session")
def picture():
    """Make the bytes of a picture of noise, of the seed that is given."""

    def make(seed=0, size=(40, 56), suffix=".png"):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        return cv2.imencode(suffix, pixels)[1].tobytes()

    return make


class Running:
    """A server in a thread, and a client for it."""

    def __init__(self, service, server, port):
        self.service, self.server, self.port = service, server, port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=DEADLINE)

    def post(self, path="/score", **options):
        return self.client.post(path, **options)


@contextmanager
def running(artefacts, **settings):
    """Serve in a thread; at the end the server is asked to end, and must."""
    settings = {"scoring": {"threads": 1}, "grace": DEADLINE} | settings
    named = artefacts if isinstance(artefacts, dict) else {artefacts.stem: artefacts}
    service = Service(Settings(artefacts={name: str(path) for name, path in named.items()}, **settings))
    server = Server(create_app(service), grace=settings["grace"])
    listening = listen("127.0.0.1", 0)
    started = Running(service, server, listening.getsockname()[1])
    thread = threading.Thread(target=server.serve_on, args=(listening,))
    thread.start()
    try:
        yield started
    finally:
        server.should_exit = True
        started.client.close()
        thread.join(DEADLINE)
        service.close()
        assert not thread.is_alive()


@pytest.fixture
def serve():
    """Start servers: a context manager, given an artefact or several by name, and settings."""
    return running
