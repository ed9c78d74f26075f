"""The example package, discovered by its entry point as an installed one is."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = EXAMPLES / "custom_model"


@pytest.fixture
def installed(tmp_path):
    """The metadata that pip would write for the example, beside its source on the path; returns the environment."""
    import os

    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / "site" / "tiny_iqa-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-iqa\nVersion: 0.1.0\n", encoding="utf-8")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(PACKAGE)])}


def run(command, *arguments, environment):
    command = [Path(sys.executable).with_name(command), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_export_and_score(installed, tmp_path):
    artefact = tmp_path / "tiny.onnx"
    exported = run(
        "iqa-export", "--model", "tiny", "--weights", "random:0", "--output", artefact, environment=installed
    )
    assert exported.returncode == 0, exported.stderr
    image = EXAMPLES / "photographs" / "stream.jpg"
    scored = run("iqa-run", artefact, image, "--format", "csv", environment=installed)
    assert scored.returncode == 0, scored.stderr
    header, row = scored.stdout.strip().splitlines()
    assert header == "path,score,range,direction,width,height,patches,milliseconds,error"
    assert 0 < float(row.split(",")[1]) < 1


def test_it_is_short():
    source = (PACKAGE / "tiny_iqa" / "__init__.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60


@pytest.mark.parametrize(
    "value", ["no_such_module:Thing", "iqa_export.commands.export:main", "iqa_export.systems.yoto:YotoSystem"]
)
def test_a_bad_entry_point_costs_a_warning_not_the_others(monkeypatch, value):
    from importlib.metadata import EntryPoint

    from iqa_export import systems

    entry = EntryPoint("bad", value, systems.ENTRY_POINT_GROUP)
    monkeypatch.setattr(systems, "entry_points", lambda **_: [entry])
    systems.all_systems.cache_clear()
    with pytest.warns(UserWarning, match="entry point bad"):
        found = systems.all_systems()
    systems.all_systems.cache_clear()
    assert set(found) == {system.name for system in systems.BUILT_IN}
