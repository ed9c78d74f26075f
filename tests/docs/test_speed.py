"""The table of speed by kind of host is that of the results that are stored."""

from pathlib import Path

import pytest
from speed.document import read_results
from speed.hosts import name_of, table

ROOT = Path(__file__).parents[2]
ROWS = list(table(read_results(ROOT / "benchmarks" / "results")))


@pytest.mark.parametrize("page", ["docs/speed.md", "README.md"])
def test_the_page_has_the_table_of_the_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "\n" + "\n".join(ROWS) + "\n\n" in text


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ({"processor": "AMD EPYC"}, "AMD EPYC"),
        ({"processor": "AMD EPYC", "processor_model": "family 25, model 17"}, "AMD EPYC (Zen 4)"),
        ({"processor": "Some CPU", "processor_model": "family 6, model 1"}, "Some CPU (family 6, model 1)"),
    ],
)
def test_a_kind_of_host_has_a_name(host, name):
    assert name_of(host) == name


def result(**host):
    """Return what the suite stores: PyTorch, two of ours and a product."""
    rows = [
        ("PyTorch eager, as written", "rival", 2.0, {"precision": "fp32", "ms an item": 1000.0, "of peak": "25%"}),
        ("slow", "ours", 1.0, {"precision": "fp32", "of peak": "40%"}),
        ("quick", "ours", 0.5, {"precision": "fp32", "of peak": "80%"}),
        ("product", "limit", 0.1, {"precision": "fp32", "GFLOP/s": 400.0}),
    ]
    outcomes = [
        {"name": name, "role": role, "seconds": [seconds], "facts": facts} for name, role, seconds, facts in rows
    ]
    case = {"name": "yoto-nr", "outcomes": outcomes}
    return {"host": {"cpus": 2} | host, "sections": {"model": {"title": "", "text": "", "cases": [case]}}}


def test_of_each_kind_of_host_the_last_result_counts():
    older, newer = result(processor="A"), result(processor="A")
    newer["sections"]["model"]["cases"][0]["outcomes"][2]["seconds"] = [0.25]
    other = result(processor="B", cpus=4)
    _, _, *rows = table([older, other, newer, {"host": {"processor": "B"}, "sections": {}}])
    assert rows == [
        "| A | 100 GMAC/s a core | full YOTO | 1 s, 25 % | 8.0 times, 80 % | - | - |",
        "| B | 50 GMAC/s a core | full YOTO | 1 s, 25 % | 4.0 times, 80 % | - | - |",
    ]
