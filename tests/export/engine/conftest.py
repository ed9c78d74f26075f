"""A Jetson and TensorRT by their stand-ins."""

import pytest

import fake_tensorrt
from fake_engines import jetson


@pytest.fixture
def gpu(monkeypatch):
    """What CUDA says of the GPU."""
    return jetson(monkeypatch)


@pytest.fixture
def fake(monkeypatch):
    return fake_tensorrt.install(monkeypatch)
