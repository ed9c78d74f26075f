"""What is published beside the code: one version, whole package data, workflows that are what they say."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import iqa_runtime

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {
    folder.name: folder
    for part in ("runtime", "calibration", "export", "training", "serving")
    for folder in (ROOT / part).glob("iqa_*")
    if folder.suffix != ".egg-info"
}


def test_the_version_is_written_once():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "iqa_runtime.__version__"}
    others = [
        file
        for folder in PACKAGES.values()
        for file in folder.rglob("*.py")
        if re.search(r"^__version__ =", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert others == [Path(iqa_runtime.__file__).resolve()]
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_every_file_of_a_package_is_package_data():
    """Weights are left out, and said to be."""
    data, left_out = (PROJECT["tool"]["setuptools"][table] for table in ("package-data", "exclude-package-data"))
    assert left_out == {"iqa_export": ["weights/*"]}
    forgotten = []
    for name, folder in PACKAGES.items():
        known = {path for pattern in (*data[name], *left_out.get(name, ())) for path in folder.glob(pattern)}
        # Templates and the like lie in sub-packages, whose patterns are of the package they are in.
        forgotten += [
            path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc", ".so", ".pyd") and path not in known
        ]
    assert not forgotten


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_what_they_run_and_may_do_little(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])
            # An expression in a command is pasted into it before the shell reads it.
            assert "${{" not in step.get("run", "")


def test_workflows_run_targets_that_there_are():
    targets = set(re.findall(r"^([\w./$()@%-]+(?: [\w./%-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            for step in job["steps"]:
                for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                    assert target in known, f"{path.name}: make {target}"


def test_a_wheel_is_tested_where_it_is_built():
    settings = PROJECT["tool"]["cibuildwheel"]
    assert "check_wheel.py" in settings["test-command"]
    assert "check_wheel.py --rows" in settings["linux"]["test-command"]
    for command in (settings["linux"]["repair-wheel-command"][-1], settings["macos"]["repair-wheel-command"]):
        assert "finish_wheel.py" in command
