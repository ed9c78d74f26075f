"""The benchmark of the deploy form, on the smallest network."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from iqa_export.systems import GraphChoice, find_system

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "deploy_form.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = spec_from_file_location("deploy_form", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.long
def test_every_row_is_measured_and_the_deploy_form_is_less_work(benchmark: ModuleType) -> None:
    choice = GraphChoice(variant="edge", task="fr")
    rows = benchmark.measure_case(find_system("yoto"), choice, cached=True, threads=1, rounds=1)
    plain, eager, deployed, _ = (row["gmac"] for row in rows)
    assert deployed <= plain <= eager
    assert deployed < eager
    assert all(row["seconds"] > 0 for row in rows)
