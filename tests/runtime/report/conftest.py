"""One browser for all tests of pages."""

import pytest

import chromium


@pytest.fixture(scope="session")
def browser():
    with chromium.started() as browser:
        yield browser
