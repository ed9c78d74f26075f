"""Marked tests are left out where what they need is not installed, no test is about time, and a module has one browser.

While the browser is there, Playwright's event loop runs in the thread of the tests.
"""

from importlib.util import find_spec

import pytest
from hypothesis import settings

import chromium

# A busy machine may take any time for an example.
settings.register_profile("without deadline", settings.default, deadline=None)
settings.load_profile("without deadline")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("openvino") is not None and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    if item.get_closest_marker("ray") is not None and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    if item.get_closest_marker("browser") is not None and not (chromium.CHROMIUM.exists() and find_spec("playwright")):
        pytest.skip("Chromium or Playwright is not installed")


@pytest.fixture(scope="module")
def browser():
    with chromium.started() as browser:
        yield browser
