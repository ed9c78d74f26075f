"""The help of every command: whole sentences, nothing swallowed, nothing heavy loaded."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

SCRIPTS = {
    name: entry.partition(":")[0]
    for name, entry in tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]["scripts"].items()
}
"""The commands that a wheel installs, and their modules."""

SENTENCE = re.compile(r"[A-Z].*\.", re.DOTALL)
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "cv2", "scipy", "matplotlib"} | {
    *("aiohttp", "fsspec", "pandas", "pyarrow", "ray", "starlette", "uvicorn")
}
COLUMNS = 100
COMMON = {"help", "version", "install_completion", "show_completion"}
"""Options that need no line in the page of a command; those of completion have theirs in docs/commands.md."""


def commands_of(name):
    """Return a command and those below it, by the words that a user types."""
    root = typer.main.get_command(importlib.import_module(SCRIPTS[name]).app)
    return {(): root} | {(word,): command for word, command in getattr(root, "commands", {}).items()}


def shown(name, *words):
    """Return the help as it comes through a pipe, and the libraries that were loaded for it."""
    code = (
        f"import sys; from {SCRIPTS[name]} import main; sys.argv[0] = {name!r}\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    finished = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=environment | {"COLUMNS": str(COLUMNS), "PYTHONIOENCODING": "utf-8"},
    )
    return finished.stdout, set(finished.stderr.split())


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_help_text_is_a_sentence(name):
    for words, command in commands_of(name).items():
        assert SENTENCE.fullmatch(command.help.strip()), (words, command.help)
        for param in command.params:
            assert SENTENCE.fullmatch(param.help or ""), (words, param.name, param.help)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_shows_all_and_loads_little(name):
    for words, command in commands_of(name).items():
        out, loaded = shown(name, *words)
        assert not HEAVY & loaded
        assert "\x1b" not in out, "colours are for terminals"
        assert max(map(len, out.splitlines())) <= COLUMNS
        text = " ".join(out.replace("│", " ").split())
        for param in command.params:
            if param.hidden:
                continue
            # Columns fold each text on its own; what markup swallowed would be missing.
            assert set(param.opts) <= set(text.split()) or param.param_type_name == "argument"
            for word in param.help.split():
                assert word in text, (param.name, word)


def test_options_that_commands_share_read_the_same():
    groups = [
        {param.name: param.help for param in commands_of(name)[()].params}
        for name in ("iqa-run", "iqa-bench", "iqa-compare", "iqa-eval", "iqa-serve", "iqa-triton", "iqa-ray")
    ]
    for name in ("backend", "device", "precision", "threads", "trust"):
        assert len({group[name] for group in groups}) == 1
    engines = {param.name: param.help for param in commands_of("iqa-engine")[("build",)].params}
    assert engines["library"] == {param.name: param.help for param in commands_of("iqa-export")[()].params}["library"]


@pytest.mark.parametrize(
    ("name", "page"),
    [
        *(("iqa-run", "docs/cli.md"), ("iqa-serve", "docs/serving.md")),
        *(("iqa-triton", "docs/triton.md"), ("iqa-ray", "docs/cluster.md")),
    ],
)
def test_every_option_is_in_the_page_of_its_command(name, page):
    page = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    for param in commands_of(name)[()].params:
        if param.param_type_name == "option" and param.name not in COMMON:
            assert re.search(rf"{re.escape(max(param.opts, key=len))}[ `\n]", page), param.opts
