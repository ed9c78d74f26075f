"""How Sphinx makes pages of the documentation: ``make docs``.

The Markdown stays as GitHub shows it. The root of the sources is that of the repository, so that links between pages,
and to files beside them, hold here as they do there.
"""

from __future__ import annotations

from sphinx.application import Sphinx

project = "iqa-deploy"
root_doc = "docs/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "*.md",
    "benchmarks/*.md",
    "docs/**",
    "examples/*/README.md",
    "runtime/iqa_runtime/models/LICENCES.md",
]
exclude_patterns = [".*", "build"]

html_theme = "furo"
html_title = "iqa-deploy"
html_extra_path = ["site"]
html_show_copyright = False
html_show_sphinx = False
# Summaries are fetched, which browsers refuse to pages from disk.
html_show_search_summary = False

myst_heading_anchors = 4

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False

CONTENTS = {
    "Begin": ["First five minutes <../README>", "install", "commands", "python", "figures"],
    "Score": [
        *("cli", "images", "video", "tables", "measures", "report", "serving", "cluster", "triton", "bench"),
        "security",
    ],
    "Networks": [
        "models",
        *("models/yoto", "models/edge", "models/cvrkd", "models/cvrkd-edge", "models/dri", "models/dri-edge"),
        *("models/mfe", "models/mfe-edge", "models/lpips", "models/dists"),
        "models/*",
    ],
    "Deploy": ["export", "contract", "bring-your-network", "precision", "compare", "tensorrt", "openvino"],
    "Train and judge": ["training", "training/*", "evaluation", "datasets"],
    "Examples": ["../examples/*/README"],
    "Reference": ["api", "architecture", "kernels", "speed", "../benchmarks/README", "../benchmarks/NOTES"],
    "Project": ["wheels", "../CHANGELOG", "../CONTRIBUTING", "../runtime/iqa_runtime/models/LICENCES"],
}
"""The pages in the order of the sidebar; one that is missing here is a warning, and so an error."""


def add_contents(_: Sphinx, page: str, source: list[str]) -> None:
    """Give the first page the tables of contents that its Markdown, which GitHub shows, has in its words."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            lines = [f":caption: {caption}", ":hidden:", ":glob:", "", *pages]
            source[0] += "\n\n" + "\n".join(["```{toctree}", *lines, "```"]) + "\n"


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("source-read", add_contents)
