"""The command iqa lists the others and runs them; shells complete all of them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from command_line import invoke
from iqa_runtime.commands import iqa, run
from iqa_runtime.commands.iqa import main

ROOT = Path(__file__).parents[3]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
WORDS = sorted(name.removeprefix("iqa-") for name in SCRIPTS if name != "iqa")


@pytest.fixture
def metadata(tmp_path, monkeypatch):
    """Install what this checkout says of its commands; return the folder."""
    folder = tmp_path / "iqa_deploy-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: iqa-deploy\nVersion: 0\n", encoding="utf-8")
    lines = [f"{name} = {entry}" for name, entry in SCRIPTS.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[console_scripts]", *lines, ""]), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    iqa.installed.cache_clear()
    yield tmp_path
    iqa.installed.cache_clear()


@pytest.mark.parametrize("arguments", [(), ("--help",)])
@pytest.mark.usefixtures("metadata")
def test_every_command_is_listed_with_what_it_does(arguments):
    result = invoke(main, *arguments)
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands")[2]
    assert [line.split()[1] for line in listed.splitlines() if line[2:3].isalpha()] == WORDS
    assert "Score the quality of images" in listed


@pytest.mark.usefixtures("metadata")
def test_a_command_runs_as_by_its_own_name(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    through = invoke(main, "run", "none.onnx", "none.jpg")
    assert through == invoke(run.main, "none.onnx", "none.jpg")
    assert through.exit_code == 2
    assert through.stderr.startswith("iqa-run: none.onnx")
    assert "Usage: iqa-engine build" in invoke(main, "engine", "build", "--help").stdout


@pytest.mark.usefixtures("metadata")
def test_a_word_that_is_no_command_says_where_they_are_listed():
    result = invoke(main, "rnu", "edge")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "iqa: rnu: no command of iqa; iqa --help lists those there are\n"


def test_without_an_installation_there_are_no_commands(monkeypatch):
    def missing(name):
        raise iqa.metadata.PackageNotFoundError(name)

    iqa.installed.cache_clear()
    monkeypatch.setattr(iqa.metadata, "distribution", missing)
    result = invoke(main, "run")
    iqa.installed.cache_clear()
    assert result.exit_code == 2
    assert "run: no command" in result.stderr


COMPLETED = """
eval "$(_IQA_COMPLETE=source_bash iqa)"
eval "$(_IQA_RUN_COMPLETE=source_bash iqa-run)"
complete -p iqa iqa-run
for line in "iqa " "iqa e" "iqa run --form" "iqa engine " "iqa-run edge --format " "iqa-run none"; do
    read -r -a COMP_WORDS <<< "$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    function=$(complete -p "${COMP_WORDS[0]}" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $function "${COMP_WORDS[0]}"
    echo "$line:" "${COMPREPLY[@]}"
done
"""
"""What bash does when Tab is pressed at the end of some lines."""


def test_bash_completes_commands_options_and_values(metadata):
    for name in ("iqa", "iqa-run"):
        module = SCRIPTS[name].partition(":")[0]
        program = metadata / name
        program.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n", encoding="utf-8")
        program.chmod(0o755)
    paths = os.pathsep.join([str(metadata), *filter(None, sys.path)])
    environment = os.environ | {"PATH": f"{metadata}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths}
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETED], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stderr == ""
    first, second, *rest = done.stdout.splitlines()
    # Where there is nothing to offer, the shell completes names of files.
    assert first.startswith("complete -o default")
    assert second.startswith("complete -o default")
    assert rest == [
        f"iqa : {' '.join(WORDS)}",
        f"iqa e: {' '.join(word for word in WORDS if word.startswith('e'))}",
        "iqa run --form: --format",
        "iqa engine : build refit info",
        "iqa-run edge --format : table json jsonl csv parquet arrow",
        "iqa-run none:",
    ]
