"""The rules on imports, on small packages that break them."""

from pathlib import Path

import pytest

import check_imports

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A checkout of four packages without imports, and a function that writes a module of one."""
    for folder, _ in check_imports.FLOORS:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").write_text("")

    def write(path, text):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    return tmp_path, write


def test_this_checkout_keeps_them():
    assert list(check_imports.complaints(ROOT)) == []


def test_imports_point_down(checkout):
    root, write = checkout
    write("runtime/iqa_runtime/a.py", "def late():\n    from iqa_export import x\n")
    write("calibration/iqa_calibration/b.py", "import iqa_runtime.a\nimport torch.nn\n")
    found = list(check_imports.complaints(root))
    assert any("runtime/iqa_runtime/a.py:2: iqa_runtime must not import iqa_export" in line for line in found)
    assert any("calibration/iqa_calibration/b.py:2: iqa_calibration must not import torch" in line for line in found)
    assert len(found) == 2


@pytest.mark.parametrize(
    "back",
    [
        "from iqa_runtime.first import x\n",
        "from ..first import x\n",
        "from .. import first\n",
        "def late():\n    import iqa_runtime.first\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from iqa_runtime import first\n",
    ],
)
def test_no_circle(checkout, back):
    root, write = checkout
    write("runtime/iqa_runtime/first.py", "from iqa_runtime.sub import second\n")
    write("runtime/iqa_runtime/sub/__init__.py", "")
    write("runtime/iqa_runtime/sub/second.py", "x = 1\n")
    assert list(check_imports.complaints(root)) == []
    write("runtime/iqa_runtime/sub/second.py", back)
    (line,) = check_imports.complaints(root)
    assert "circle" in line
    assert "iqa_runtime.sub.second" in line
