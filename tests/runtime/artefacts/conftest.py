"""An engine and its description."""

import pytest

from described_plans import CONTENT, described
from iqa_runtime.artefacts.files import description_path


@pytest.fixture
def plan(artefacts, tmp_path):
    path = tmp_path / "x.plan"
    path.write_bytes(CONTENT)
    description_path(path).write_bytes(described(artefacts.contract()).to_json())
    return path
