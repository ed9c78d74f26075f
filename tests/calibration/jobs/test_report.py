import io
import math
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from rich.console import Console

from iqa_calibration.gate.gate import LIMITS, Extreme, compare
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.int8.sensitivity import Sensitivity
from iqa_calibration.jobs.judging import ItemTimes
from iqa_calibration.jobs.report import Attempt, Report
from iqa_calibration.jobs.report_page import write_page
from iqa_runtime.contract import FileDigest
from tiny_contract import tiny_contract

SIDE = 24
FIRST_PART = "encoder.<b>first</b> & $x_1$"


def contract(**changes):
    changed = {"precision": "int8", "target": "onnxruntime", "calibration": {"photographs": 64}, "exporter": "test 1"}
    return tiny_contract(SIDE, **(changed | changes))


def report(*, moved=0.0, white=0.1, **changes):
    photograph = np.zeros((SIDE, SIDE, 3), np.uint8)
    gate_set = GateSet.build(contract(), [photograph])
    scores = np.linspace(0, 1, 17)
    moved_scores = scores.copy()
    moved_scores[3] += moved
    pictures = [
        Extreme(picture="a <black> picture", fp32=0.5, candidate=0.5225),
        Extreme(picture="a white picture", fp32=white, candidate=0.1),
    ]
    gate = compare(scores, moved_scores, gate_set, LIMITS["int8"], pictures)
    whole = Report(
        contract=contract(),
        judged_on="onnxruntime",
        source=FileDigest(file="m.onnx", sha256="ab" * 32),
        source_bytes=4_000_000,
        file=FileDigest(file="m.int8.onnx", sha256="cd" * 32),
        bytes=1_000_000,
        gate=gate,
        item_ms=ItemTimes(fp32=2.0, candidate=1.0),
        images=tuple(gate_set.describe(index) for index in range(17)),
        converted=5,
        kept_float={"node <i>": "its values & more"},
        sensitivities=(
            Sensitivity(part=FIRST_PART, nodes=("a",), effect=math.inf, macs=7_000_000),
            Sensitivity(part="head", nodes=("b",), effect=0.0123, macs=1000),
        ),
        seconds=1.0,
    )
    return replace(whole, **changes)


def shown(whole):
    stream = io.StringIO()
    whole.show(Console(file=stream, width=160))
    return stream.getvalue()


def page(whole, tmp_path):
    write_page(whole, tmp_path / "r.html")
    return (tmp_path / "r.html").read_text(encoding="utf-8")


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("href", "src", "xlink:href", "data", "action")]
        self.found += [tag] * (tag in ("link", "script", "iframe", "img"))


def test_an_accepted_one_says_so_with_its_numbers():
    (line,) = report().lines()
    assert line == "the gate accepts it: largest difference 0.00% of the spread, mean 0.00%, SRCC 1.00000"


def test_slowness_is_the_first_line():
    lines = report(item_ms=ItemTimes(fp32=2.0, candidate=3.0)).lines()
    assert (
        lines[0]
        == "int8 is SLOWER than float32 on this host: 3.00 ms an item instead of 2.00 (onnxruntime, one thread)"
    )
    assert shown(report(item_ms=ItemTimes(fp32=2.0, candidate=3.0))).startswith("int8 is SLOWER")
    assert "SLOWER" not in shown(report(item_ms=None))


def test_a_refusal_names_numbers_and_the_alternative_that_passes():
    refused = report(
        moved=0.5,
        file=None,
        alternatives=(
            Attempt(command=("iqa-calibrate", "--int8"), passed=False, reasons=("SRCC",)),
            Attempt(
                command=("iqa-calibrate", "my file", "--fp16"), passed=True, reasons=(), largest=0.001, mean=0, srcc=1
            ),
        ),
    )
    assert not refused.passed
    verdict = refused.verdict()
    # 0.5 of the spread from the 5th to the 95th percentile of 0 to 1.
    assert "largest difference 55.56% of the spread" in verdict
    assert verdict.endswith(
        "This passes (largest difference 0.10% of the spread, mean 0.00%, SRCC 1.00000): iqa-calibrate 'my file' --fp16"
    )
    assert "None of 0 alternatives" in report(moved=0.5).verdict()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gate": None}, "not judged: the gate was left out"),
        ({"contract": contract(weights=replace(contract().weights, trained=False))}, "the weights are random"),
        ({"contract": contract(target="tensorrt")}, "judged on onnxruntime, made for tensorrt"),
        ({"contract": contract(calibration={"photographs": 1})}, "calibrated on 1 photograph;"),
    ],
)
def test_what_limits_the_meaning_is_said(changes, line):
    assert any(said.startswith(line) for said in report(**changes).lines())
    assert not any(said.startswith(line) for said in report().lines())


def test_tables_show_measures_parts_and_what_stayed_float():
    text = shown(report())
    for word in (
        "1.00 MB",
        "float32: 4.00 MB",
        "5, 1",
        "at most 4.00%",
        "1.00 ms",
        "head",
        "1.23%",
        "its values & more",
    ):
        assert word in text
    assert "float32: 2.00 ms" not in shown(report(gate=None, images=()))


def test_json_holds_every_score_and_null_for_infinity():
    content = msgspec.json.decode(msgspec.json.encode(report().content()))
    assert content["passed"] is True
    assert content["gate"]["fp32_scores"][16] == 1.0
    assert content["sensitivities"][0]["effect"] is None
    assert content["contract"]["precision"] == "int8"


def test_the_page_needs_nothing_else(tmp_path):
    text = page(report(moved=0.5, alternatives=(Attempt(command=("c",), passed=False, reasons=("<no>",)),)), tmp_path)
    links = Links()
    links.feed(text)
    assert all(link.startswith("#") for link in links.found)
    assert "@import" not in text
    assert "url(http" not in text
    assert text.count("<svg") == 2
    assert "&lt;no&gt;" in text


def test_names_are_text_in_the_page(tmp_path):
    text = page(report(), tmp_path)
    assert "node &lt;i&gt;" in text
    assert "<b>first" not in text
    assert "encoder.&lt;b&gt;first&lt;/b&gt; &amp; $x_1$ (score not finite)" in text


def test_the_page_leaves_out_what_was_not_measured(tmp_path):
    text = page(report(gate=None, images=(), sensitivities=(), kept_float={}), tmp_path)
    assert "<svg" not in text
    assert "Kept in float32" not in text


def test_equal_reports_give_equal_pages(tmp_path):
    assert page(report(), tmp_path) == page(report(), tmp_path)


def test_pictures_at_the_limits_are_shown(tmp_path):
    whole = report(white=math.nan)
    rows = {name: (value, allowed) for name, value, allowed in whole.measures()}
    # A spread of 0.9: the 5th and the 95th percentile of 17 steps from 0 to 1.
    assert rows["largest difference on pictures at the limits"] == ("2.50% (a <black> picture)", "at most 40.00%")
    assert "float32 itself has no finite score for a white picture, so nothing was compared there" in whole.lines()
    write_page(whole, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        '<tr><td>a &lt;black&gt; picture</td><td class="number">0.5000</td><td class="number">0.5225</td></tr>' in page
    )
    assert '<tr><td>a white picture</td><td class="number">nan</td><td class="number">0.1000</td></tr>' in page
