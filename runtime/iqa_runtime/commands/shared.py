"""What the commands share: how they end, how they speak, how they show progress, and options that come in groups."""

from __future__ import annotations

import copy
import inspect
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

import typer

from iqa_runtime import __version__
from iqa_runtime.commands.process import (
    INTERRUPTED,
    ended_as_by_ctrl_c,
    exit_code,
    give_up_output,
    leave,
    open_closed_streams,
)
from iqa_runtime.errors import DependencyError, IqaError, UsageError
from iqa_runtime.showing import printable

SOME_FAILED = 1
NOT_RUN = 2

EXIT_CODES: Mapping[type[IqaError], int] = {UsageError: NOT_RUN, DependencyError: NOT_RUN, IqaError: SOME_FAILED}

_PATIENCE = 5.0
"""Seconds for which a command that nobody watches on a terminal says nothing."""

Tell = Callable[[str, int, int | None], None]
"""To be told of progress: the name of the stage, what is done, and of how much; None where that is not known. What
follows a colon in the name may change while the stage goes on."""

# The base of everything Typer says about a command line; Typer exports only this subclass.
_PARSE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

_PARAMETER = re.compile(r"``([a-z][a-z0-9_]*)(?:=(.*?))?``")
"""How library code writes a parameter of its own in a message: ``output``, ``opset=17``."""


def make_app() -> typer.Typer:
    """Return an empty command line: help in panels, completion for shells, errors left to `run_app`."""
    return typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, suggest_commands=False)


def version_of(name: str) -> Callable[[bool], None]:
    """Return what the option ``--version`` of a command calls, which ends it."""

    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {__version__}")
            raise typer.Exit

    return show


def run_app(
    app: typer.Typer,
    name: str,
    *,
    exit_codes: Mapping[type[IqaError], int] = EXIT_CODES,
    moved: Mapping[str, str] | None = None,
) -> NoReturn:
    """Run a command line and exit; every error is one line on standard error, every warning too.

    Parameters
    ----------
    app
        The command line.
    name
        What the user calls it.
    exit_codes
        By kind of error, the narrower first. A command line that cannot be read is 2, Ctrl-C 130, SIGTERM 143, standard
        output that nobody reads 141.
    moved
        Options that another command takes, and what to type for each.
    """
    open_closed_streams()
    message = None
    show_as_usual = warnings.showwarning

    def show_warning(text: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is UserWarning:
            say(name, in_flags(str(text), app))
        else:
            show_as_usual(text, category, *where, **more)

    try:
        with ended_as_by_ctrl_c(), warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show_warning  # type: ignore[assignment]  # takes the same, in one piece
            code = _with_interrupts(app)(prog_name=name, standalone_mode=False) or 0
            sys.stdout.flush()
    except _PARSE_ERROR as error:
        code, message = NOT_RUN, _misread(error, name, moved or {})
    except IqaError as error:
        code = next(code for kind, code in exit_codes.items() if isinstance(error, kind))
        message = in_flags(str(error), app)
    except MemoryError:
        code = exit_codes[IqaError]
        message = "not enough memory; give smaller images, fewer threads or a smaller batch, or end other programs"
    except BrokenPipeError:
        code = give_up_output()
    except OSError as error:
        code, message = NOT_RUN, _told(error)
    except _Interrupted as interrupted:
        # Here, while its frames live: what they hold would wait for its threads when it goes.
        leave(interrupted.exit_code)
    except (KeyboardInterrupt, typer.Abort):  # before the command has begun
        leave(INTERRUPTED)
    if message is not None:
        say(name, message)
    sys.exit(code)


def _misread(error: Exception, name: str, moved: Mapping[str, str]) -> str:
    """Say why a command line cannot be read, and what would be one."""
    option = getattr(error, "option_name", "")
    if option in moved:
        return f"{option}: no option of {name}; {moved[option]}"
    message = str(getattr(error, "format_message", error.__str__)())
    context: Any = getattr(error, "ctx", None)
    # By what they say: a command that is none has no exception of its own, and neither is public.
    if message.startswith("No such command"):
        return f"{message.rstrip('.')}; there is {', '.join(context.command.commands)}"
    if message.startswith("Missing"):
        return f"{message.rstrip('.')}; {context.command_path} --help says what to give"
    return message


class _Interrupted(BaseException):
    """Ctrl-C or its like, on its way through Typer."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__()
        self.exit_code = exit_code(interrupt)


def _with_interrupts(app: typer.Typer) -> Callable[..., Any]:
    """Return a command line that does not catch Ctrl-C: Typer would lose which signal it was, and drop the frames."""
    command: Any = typer.main.get_command(app)
    invoke = command.invoke

    def invoke_interruptibly(context: Any) -> Any:
        try:
            return invoke(context)
        except KeyboardInterrupt as interrupt:
            raise _Interrupted(interrupt) from interrupt

    command.invoke = invoke_interruptibly
    return command.main  # type: ignore[no-any-return]


def _told(error: OSError) -> str:
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the folder you are in has been removed; change to another one"
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{where}cannot read or write ({error.strerror or error}); check path, permissions and disk"


def say(name: str, message: str) -> None:
    """Write a line to standard error under the name of a command, whatever characters a path brings along.

    None of them steers the terminal.
    """
    encoding = sys.stderr.encoding or "utf-8"
    line = f"{name}: {printable(message)}\n".encode(encoding, "backslashreplace").decode(encoding)
    sys.stderr.write(line)  # at once, as print does not: several processes may write to one terminal or log


def in_flags(message: str, app: typer.Typer) -> str:
    """Say in the words of a command line what library code says of its parameters.

    A parameter becomes its option, and one that chooses among switches (``precision=int8``) the switch; a positional
    one becomes the word that the help has for it. What is no parameter of the command is one of another command's.
    """
    names, switches = _flags_of(app)

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        dashed = name.replace("_", "-")
        if name not in names and f"--{value}" in switches:
            return f"--{value}"
        if value == "False":
            return f"--no-{dashed}"
        option = names.get(name, f"--{dashed}")
        return option if value in (None, "True") else f"{option} {value}"

    return _PARAMETER.sub(flag, message)


@cache
def _flags_of(app: typer.Typer) -> tuple[dict[str, str], set[str]]:
    """Return what the parameters of a command line are called there, and all its options."""
    command: Any = typer.main.get_command(app)
    known = [param for each in (command, *getattr(command, "commands", {}).values()) for param in each.params]
    names = {
        param.name: param.opts[0] if param.param_type_name == "option" else param.metavar or param.name.upper()
        for param in known
    }
    return names, {option for param in known for option in param.opts}


@contextmanager
def progress(*, shown: bool = True, name: str | None = None) -> Iterator[Tell]:
    """Show on a terminal how far a job is: one bar, for the stage that is on.

    Parameters
    ----------
    shown
        Whether to.
    name
        Of the command, which elsewhere says once what each stage is, of a job that takes longer than some seconds; None
        for nothing there.

    Yields
    ------
    callable
        As `Tell`.
    """
    if not (shown and sys.stderr.isatty()):
        yield _teller(name) if shown and name is not None else lambda *_: None
        return
    # Here and not above, so that --help and usage errors don't wait for it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        current = ""

        def tell(stage: str, done: int, total: int | None) -> None:
            nonlocal current
            kind = _kind(stage)
            if kind != current or done <= 1:
                bars.reset(bar)
                current = kind
            bars.update(bar, description=printable(stage), completed=done, total=total)

        yield tell


def _teller(name: str) -> Tell:
    """Return what says once, on a line, what each stage of a long job is."""
    said, began = set[str](), time.monotonic()

    def tell(stage: str, *_: object) -> None:
        kind = _kind(stage)
        if kind not in said and time.monotonic() - began > _PATIENCE:
            said.add(kind)
            say(name, kind)

    return tell


def _kind(stage: str) -> str:
    return stage.partition(":")[0]


def counter(tell: Tell, stage: str, total: int) -> Callable[[], None]:
    """Return what tells of one more thing done each time it is called."""
    done = count(1)
    return lambda: tell(stage, next(done), total)


def with_groups(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take groups of options: a parameter whose type is a dataclass becomes the fields of that.

    The fields are annotated as Typer wants options; ``PANEL`` of the dataclass is the panel that shows them.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _parameters_of(groups[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY  # so that options without a default may follow those with one
            parameters.append(parameter.replace(kind=kind, annotation=hints[name]))

    def command(**values: Any) -> Any:
        made = {}
        for name, group in groups.items():
            made[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        return function(**values, **made)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameters_of(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for each in fields(group):
        hint = hints[each.name]
        if get_origin(hint) is Annotated:
            kind, option = get_args(hint)
            option = copy.copy(option)
            option.rich_help_panel = group.PANEL
            hint = Annotated[kind, option]
        default = inspect.Parameter.empty if each.default is MISSING else each.default
        yield inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
