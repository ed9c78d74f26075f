"""What the commands share: groups of options, words, exit codes, progress."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import typer

from command_line import invoke
from iqa_runtime.commands.process import Terminated
from iqa_runtime.commands.shared import counter, in_flags, make_app, progress, run_app, say, with_groups
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, IqaError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kettle:
    PANEL: ClassVar[str] = "Kettle"

    litres: Annotated[float, typer.Option(min=0.5, help="How much.")] = 1.0
    spout: Annotated[bool | None, typer.Option("--spout/--no-spout", help="Whether it has one.")] = None
    fp16: Annotated[bool, typer.Option("--fp16", help="Half boiled.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tea:
    PANEL: ClassVar[str] = "Tea"

    leaf: Annotated[str, typer.Option(help="Which leaf.")]
    herbs: Annotated[list[str] | None, typer.Option("--herb", help="What else.")] = None


def command(body):
    """Return the `main` of a command with two groups, whose body gets what was given."""
    app = make_app()

    @app.command()
    @with_groups
    def brew(
        pot: Annotated[Path, typer.Argument(metavar="POT", help="Where.")],
        kettle: Kettle,
        tea: Tea,
        max_cups: Annotated[int, typer.Option(help="How many.")] = 2,
    ):
        """Brew."""
        return body(pot, kettle, tea, max_cups)

    return app


def run(body, *arguments, **options):
    app = command(body)
    return invoke(lambda: run_app(app, "brew", **options), "pot", "--leaf", "oolong", *arguments)


def test_groups_arrive_as_they_were_typed():
    given = []
    result = run(
        lambda *values: given.append(values), "--litres", "2", "--no-spout", "--herb", "mint", "--herb", "sage"
    )
    assert result.exit_code == 0
    assert given == [(Path("pot"), Kettle(litres=2.0, spout=False), Tea(leaf="oolong", herbs=["mint", "sage"]), 2)]


def test_what_was_not_given_has_the_default_of_the_group():
    given = []
    assert run(lambda *values: given.append(values), "--max-cups", "3").exit_code == 0
    assert given == [(Path("pot"), Kettle(), Tea(leaf="oolong"), 3)]


def test_limits_and_missing_options_are_those_of_the_group():
    result = run(print, "--litres", "0.1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("brew: Invalid value for '--litres'")
    missing = invoke(lambda: run_app(command(print), "brew"), "pot")
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "--leaf" in missing.stderr


def test_groups_are_panels_of_the_help():
    params = {param.name: param for param in typer.main.get_command(command(print)).params}
    assert [params[name].rich_help_panel for name in ("litres", "leaf", "max_cups")] == ["Kettle", "Tea", None]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("``max_cups=9``: too many", "--max-cups 9: too many"),
        ("lower ``max_cups``", "lower --max-cups"),
        ("``pot``: empty", "POT: empty"),
        ("``herbs=nettle``: burns", "--herb nettle: burns"),
        ("``spout=False``: drips", "--no-spout: drips"),
        ("``spout=True`` drips, ``spout`` too", "--spout drips, --spout too"),
        ("``precision=fp16``: tepid", "--fp16: tepid"),
        ("a smaller ``opt_batch``", "a smaller --opt-batch"),
        ("``leaf=green tea``: bitter", "--leaf green tea: bitter"),
        ("Object missing required field `leaf`", "Object missing required field `leaf`"),
        ("runs/litres=3/x.onnx: none; litres=3", "runs/litres=3/x.onnx: none; litres=3"),
    ],
)
def test_parameters_become_options(message, shown):
    assert in_flags(message, command(print)) == shown


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("``leaf``: brown"), 2), (ArtefactError("``leaf``: brown"), 1), (IqaError("``leaf``: brown"), 1)],
)
def test_errors_are_one_line_and_an_exit_code(error, code):
    def body(*_):
        raise error

    result = run(body)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "brew: --leaf: brown\n")


def test_a_command_may_choose_its_exit_codes():
    def body(*_):
        raise BackendError("cold")

    assert run(body, exit_codes={BackendError: 1, IqaError: 2}).exit_code == 1
    assert run(body, exit_codes={IqaError: 2}).exit_code == 2


def test_what_a_command_returns_is_its_exit_code():
    assert run(lambda *_: 7).exit_code == 7


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 130), (typer.Abort, 130), (Terminated(15), 143), (Terminated(1), 129)]
)
def test_an_interrupted_command_ends_as_shells_expect(error, code):
    def body(*_):
        raise error

    result = run(body)
    assert (result.exit_code, result.output) == (code, "")


def test_an_option_of_another_command_says_whose_it_is():
    result = run(print, "--kiln", "1", moved={"--kiln": "pottery fire takes it"})
    assert result.exit_code == 2
    assert result.stderr == "brew: --kiln: no option of brew; pottery fire takes it\n"


def test_warnings_are_lines_in_the_words_of_the_command():
    def body(*_):
        warnings.warn("``herbs``: none", stacklevel=1)

    assert run(body).stderr == "brew: --herb: none\n"


def test_a_path_that_the_terminal_cannot_show_is_written_all_the_same(monkeypatch, capfdbinary):
    stream = open(2, "w", encoding="ascii", closefd=False)  # noqa: SIM115 - a stream, not a path
    monkeypatch.setattr("sys.stderr", stream)
    say("brew", "tasse-ü.png: cold")
    stream.flush()
    assert capfdbinary.readouterr().err == b"brew: tasse-\\xfc.png: cold\n"


def test_a_line_is_written_at_once(monkeypatch):
    class Stream(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    written = []
    monkeypatch.setattr("sys.stderr", Stream())
    say("brew", "cold")
    assert written == ["brew: cold\n"]  # two would mix with those of another process


def test_progress_is_for_terminals(capsys):
    with progress() as tell:
        tell("steeping", 1, 2)
    assert capsys.readouterr() == ("", "")


STAGES = ("steeping: one", "steeping: two", "pouring", "steeping: three")


def test_a_long_job_that_nobody_watches_says_its_stages(monkeypatch, capsys):
    monkeypatch.setattr("iqa_runtime.commands.shared._PATIENCE", -1.0)
    for options in ({}, {"shown": False}):
        with progress(name="brew", **options) as tell:
            for stage in STAGES:
                tell(stage, 1, None)
    assert capsys.readouterr().err == "brew: steeping\nbrew: pouring\n"


def test_a_short_one_says_nothing(capsys):
    with progress(name="brew") as tell:
        for stage in STAGES:
            tell(stage, 1, None)
    assert capsys.readouterr().err == ""


def test_what_is_missing_points_to_the_help():
    result = invoke(lambda: run_app(command(print), "brew"))
    assert result.exit_code == 2
    assert result.stderr == "brew: Missing argument 'POT'; brew --help says what to give\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cool"], "No such command 'cool'; there is boil, pour"),
        (["boyl"], "No such command 'boyl'; there is boil, pour"),
        (["pour"], "Missing argument 'CUP'; brew pour --help says what to give"),
    ],
)
def test_one_of_several_commands(arguments, told):
    app = make_app()
    app.command("boil")(lambda: None)

    @app.command("pour")
    def pour(cup: Annotated[str, typer.Argument(metavar="CUP")]):
        print(cup)

    result = invoke(lambda: run_app(app, "brew"), *arguments)
    assert result.exit_code == 2
    assert result.stderr == f"brew: {told}\n"


def test_an_extra_that_is_not_installed_keeps_the_command_from_running():
    def body(*_):
        raise DependencyError('no kettle; pip install "iqa-deploy[tea]"')

    assert run(body).exit_code == 2


def test_progress_on_a_terminal_names_the_stage(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as tell:
        tell("steeping", 1, 2)
        tell("pouring", 1, None)
    assert "pouring" in capsys.readouterr().err
    with progress(shown=False) as tell:
        tell("steeping", 1, 2)
    assert capsys.readouterr().err == ""


def test_a_counter_tells_how_many_there_were():
    told = []
    advance = counter(lambda *words: told.append(words), "steeping", 3)
    advance()
    advance()
    assert told == [("steeping", 1, 3), ("steeping", 2, 3)]
