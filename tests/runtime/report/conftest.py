"""One browser for the tests of a module: while it is there, Playwright's event loop runs in their thread."""

import pytest

import chromium


@pytest.fixture(scope="module")
def browser():
    with chromium.started() as browser:
        yield browser
