"""Reports as pages: the template that all commands share around a body of their own, which Jinja fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iqa_runtime.files.overwriting import write_at_once
from iqa_runtime.report.page import whole_page
from iqa_runtime.showing import printable


def write_page(path: Path, package: str, template: str, title: str, **values: Any) -> None:
    """Write a page, whole or not at all.

    Parameters
    ----------
    path
        File to write.
    package, template
        Package whose file the body's template is. Texts become HTML that shows them, whatever they hold; what is to
        stay markup is a `markupsafe.Markup`.
    title
        Of the page, plain text; the template has it as ``title``.
    values
        What the template names.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    # Here and not above, because tables and JSON do without.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    body = environment.get_template(template).render(title=title, **values)
    write_at_once(path, whole_page(title, body).encode("utf-8", "backslashreplace"))
