"""The commands of export as a user types them, in this process and an empty folder."""

from functools import partial

import pytest

from command_line import invoke
from iqa_export.commands import engine as engine_cli
from iqa_export.commands import export as export_cli


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run iqa-export; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return partial(invoke, export_cli.main)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Run iqa-engine likewise."""
    monkeypatch.chdir(tmp_path)
    return partial(invoke, engine_cli.main)
