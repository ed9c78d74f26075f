"""What the commands other than iqa-run have in common: how they end."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from iqa_runtime.commands.run import PARSE_ERROR
from iqa_runtime.errors import IqaError, UsageError


def run_app(command: typer.Typer, name: str) -> NoReturn:
    """Run a command line and exit: 0 done, 1 failed, 2 usage, 130 interrupted; every error is one line on stderr."""
    message = None
    try:
        code = command(prog_name=name, standalone_mode=False) or 0
    except PARSE_ERROR as error:
        code, message = 2, getattr(error, "format_message", error.__str__)()
    except UsageError as error:
        code, message = 2, str(error)
    except IqaError as error:
        code, message = 1, str(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if message is not None:
        typer.echo(f"{name}: {message}", err=True)
    sys.exit(code)
