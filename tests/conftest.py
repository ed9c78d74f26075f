"""Marked tests are left out where what they need is not installed."""

from importlib.util import find_spec

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("openvino") is not None and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
