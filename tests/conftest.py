"""Marked tests are left out where what they need is not installed, and no test is about time."""

from importlib.util import find_spec

import pytest
from hypothesis import settings

# A busy machine may take any time for an example.
settings.register_profile("without deadline", settings.default, deadline=None)
settings.load_profile("without deadline")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("openvino") is not None and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
