"""The example package, discovered by its entry point as an installed one is."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iqa_export.checkpoints import KeyMap, random_checkpoint
from iqa_runtime.commands.rows import KEYS, columns

ROUNDING = 1e-5
"""float32 sums of some hundreds of products, added in another order."""

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
    pixels = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    image = tmp_path / "noise.png"
    assert cv2.imwrite(str(image), pixels[..., ::-1])
    scored = run("iqa-run", artefact, image, "--format", "csv", environment=installed)
    assert scored.returncode == 0, scored.stderr
    header, row = scored.stdout.strip().splitlines()
    assert header.split(",") == list(columns(KEYS))
    assert float(row.split(",")[1]) == pytest.approx(score_of_two_crops(pixels), rel=ROUNDING)


def score_of_two_crops(pixels):
    """Score an image of two crops side by side with the network as it is written."""
    specification = importlib.util.spec_from_file_location("tiny_iqa", PACKAGE / "tiny_iqa" / "__init__.py")
    tiny_iqa = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tiny_iqa)
    network = tiny_iqa.TinyNetwork().eval()
    network.load_state_dict(random_checkpoint(network, 0, KeyMap()).entries)
    mean, std = (np.array(values) for values in (tiny_iqa.TinySystem.mean, tiny_iqa.TinySystem.std))
    crops = np.stack(np.split((pixels / 255 - mean) / std, 2, axis=1)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return network(torch.from_numpy(crops).float())[0].mean().item()


def test_it_is_short():
    source = (PACKAGE / "tiny_iqa" / "__init__.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60


BROKEN = {
    "raises": "raise RuntimeError('boom')",
    "exits": "import sys; sys.exit(3)",
    "does not parse": "class Thing(",
    "is something else": "Thing = 3",
    "forgets a method": "class Thing(TinySystem):\n    as_written = System.as_written",
    "forgets a declaration": "class Thing(System):\n    name = 'thing'\n    for f in System.__abstractmethods__:\n"
    "        locals()[f] = lambda self, *a: None",
    "fails when made": "class Thing(TinySystem):\n    name = 'thing'\n    def __init__(self): self.nothing",
    "has a name that is none": "class Thing(TinySystem):\n    name = '../thing'",
    "has a name that is taken": "class Thing(TinySystem):\n    name = 'yoto'",
    "has no variants": "class Thing(TinySystem):\n    name = 'thing'\n    tasks = {}",
    "has a task that is none": "class Thing(TinySystem):\n    name = 'thing'\n    tasks = {'small': ('nr', 'xr')}",
    "has tasks that are a text": "class Thing(TinySystem):\n    name = 'thing'\n    tasks = {'small': 'nr'}",
    "has two channels": "class Thing(TinySystem):\n    name = 'thing'\n    mean = (0.5, 0.5)",
    "has no spread": "class Thing(TinySystem):\n    name = 'thing'\n    std = (0.2, 0, 0.2)",
    "has a range backwards": "from dataclasses import replace\nclass Thing(TinySystem):\n    name = 'thing'\n"
    "    score = replace(TinySystem.score, low=5.0, high=1.0)",
    "has a range of texts": "from dataclasses import replace\nclass Thing(TinySystem):\n    name = 'thing'\n"
    "    score = replace(TinySystem.score, low='0')",
    "has a scale that a terminal acts on": "from dataclasses import replace\nclass Thing(TinySystem):\n"
    "    name = 'thing'\n    score = replace(TinySystem.score, scale='\\x1b[31m')",
    "has a licence of two lines": "class Thing(TinySystem):\n    name = 'thing'\n    licence = 'a\\nb'",
    "has a map of half a row": "from iqa_runtime.contract import MapOutput\nclass Thing(TinySystem):\n"
    "    name = 'thing'\n    map_outputs = (MapOutput(name='quality_map', rows=2.5, columns=2),)",
    "has crops of another size": "class Thing(TinySystem):\n    name = 'thing'\n    crop = 64",
    "has a score that is a number": "class Thing(TinySystem):\n    name = 'thing'\n    score = 3",
}


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """Register a module of a given text beside the example; returns what is found."""
    from importlib.metadata import EntryPoint

    from iqa_export import systems

    def register(text: str) -> dict:
        monkeypatch.syspath_prepend(str(PACKAGE))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "thing_of_a_test", raising=False)
        header = "from iqa_export.systems import System\nfrom tiny_iqa import TinySystem\n"
        (tmp_path / "thing_of_a_test.py").write_text(header + text + "\n", encoding="utf-8")
        entries = [
            EntryPoint("bad", "thing_of_a_test:Thing", systems.ENTRY_POINT_GROUP),
            EntryPoint("tiny", "tiny_iqa:TinySystem", systems.ENTRY_POINT_GROUP),
        ]
        monkeypatch.setattr(systems, "entry_points", lambda **_: entries)
        systems.all_systems.cache_clear()
        return systems.all_systems()

    yield register
    systems.all_systems.cache_clear()
    systems._broken.cache_clear()


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_costs_a_warning_that_names_it_and_nothing_else(registered, case):
    from iqa_export import systems
    from iqa_runtime.errors import UsageError

    with pytest.warns(UserWarning, match=r"the system bad \(thing_of_a_test:Thing\) is left out: .+") as caught:
        found = registered(BROKEN[case])
    assert len(caught) == 1
    assert set(found) == {system.name for system in systems.BUILT_IN} | {"tiny"}
    with pytest.raises(UsageError, match="``model=bad``: its package is broken: "):
        systems.find_system("bad")


def test_a_package_whose_network_cannot_be_measured_is_listed_with_the_others(registered):
    from io import StringIO

    from rich.console import Console

    from iqa_export import listing

    systems = registered("class Thing(TinySystem):\n    name = 'thing'\n    def build(self, variant): 1 / 0")
    assert "thing" in systems
    console = Console(file=StringIO(), width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "all_systems", lambda: {name: systems[name] for name in ("thing", "tiny")})
        with pytest.warns(UserWarning, match="thing small cannot be measured: ZeroDivisionError"):
            listing.show_systems(console)
    assert "tiny" in console.file.getvalue()


@pytest.mark.parametrize(
    "method",
    [
        "def build(self, variant): return 1 / 0",
        "def build(self, variant): return 3",
        "def key_map(self, variant): return None",
        "def as_written(self, network, choice): raise KeyError('x')",
        "def deployed(self, network, choice): raise SystemExit(3)",
    ],
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:untrained:UserWarning")
def test_a_package_that_fails_in_an_export_is_named(registered, tmp_path, method):
    import iqa_export
    from iqa_runtime.errors import UsageError

    registered(f"class Thing(TinySystem):\n    name = 'thing'\n    {method}")
    with pytest.raises(UsageError, match=r"the package of thing_of_a_test\.Thing fails: .*; mend it"):
        iqa_export.export("thing", weights="random:0", output=tmp_path / "o.onnx")
    assert not (tmp_path / "o.onnx").exists()
