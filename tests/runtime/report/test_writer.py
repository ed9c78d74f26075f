"""The page of scored images as a file: what is in it, how large it may be, what cannot break it."""

import base64
import hashlib
import threading
from concurrent.futures import Future

import cv2
import numpy as np
import pytest

from iqa_runtime.report.page import whole_page
from iqa_runtime.report.pictures import MOST_INSIDE, Looks, Sizes, encoded, encoded_map
from iqa_runtime.report.writer import ReportWriter
from report_pages import about, inside, plain, read_page, row, rows_of, write_page

PAGE_BYTES = 15_000_000
"""What a page of 1,000 images may have."""

HOSTILE = [
    '</script><script>alert(1)</script>".jpg',
    "<!--<script>.png",
    "quote\"s' & ampersands;.jpg",
    "gpj.\u202eexe",
    "שלום.jpg",
    "line\u2028break\n.jpg",
    "not\udcffutf8.jpg",
]


def test_whatever_a_name_holds_the_page_has_its_own_elements_alone(tmp_path):
    good = write_page(tmp_path / "good.html", [(row("a.jpg", 0.5), plain)])
    rows = [row(name, 0.5, error=name, reasons=[name]) for name in HOSTILE]
    page = write_page(tmp_path / "page.html", [(each, plain) for each in rows])
    data, tags = read_page(page)
    assert tags == read_page(good)[1]
    assert [item["row"] for item in data["items"]] == rows


def test_policy_lets_in_the_one_script_that_is_there(tmp_path):
    page = write_page(tmp_path / "page.html", [(row("a.jpg", 0.5), plain)])
    text = page.read_text(encoding="utf-8")
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [tag["content"] for _, tag in read_page(page)[1] if "http-equiv" in tag]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert "http" not in policy


def test_page_without_a_script_allows_none():
    assert "script-src" not in whole_page("t", "<p>b</p>")
    assert "<title>&lt;b&gt;\\u202e</title>" in whole_page("<b>\u202e", "<p>b</p>")


def test_rows_come_in_their_order_however_long_their_pictures_take(tmp_path):
    drawn = threading.Event()

    def slow():
        assert drawn.wait(60)
        return plain()

    def quick():
        drawn.set()
        return plain()

    page = write_page(tmp_path / "page.html", [(row("slow", 0.1), slow), (row("quick", 0.2), quick)])
    assert [each["path"] for each in rows_of(page)] == ["slow", "quick"]


def test_a_run_that_is_ended_while_it_waits_for_a_picture_loses_no_row(tmp_path, monkeypatch):
    page, found, waits = tmp_path / "page.html", Future.result, iter([True])

    def result(future, timeout):
        if next(waits, False):
            raise KeyboardInterrupt
        return found(future, timeout)

    monkeypatch.setattr(Future, "result", result)
    with page.open("w", encoding="utf-8", newline="") as stream:
        writer = ReportWriter(stream, about(), sizes=Sizes.of_report(2, inside=True), place=inside, threads=2)
        writer.begin()
        for name in ("a", "b"):
            writer.write(row(name, 0.1), plain)
        with pytest.raises(KeyboardInterrupt):
            writer.end("done", interrupted=False)
        writer.end("ended", interrupted=True)
        writer.close()
    assert [each["path"] for each in rows_of(page)] == ["a", "b"]


def test_a_picture_that_cannot_be_shown_costs_no_row(tmp_path):
    def broken():
        raise MemoryError

    page = write_page(
        tmp_path / "page.html", [(row("a", 0.1), broken), (row("b", 0.2), plain), (row("c", None), Looks)]
    )
    items = read_page(page)[0]["items"]
    assert [(item["row"]["path"], "thumbnail" in item) for item in items] == [("a", False), ("b", True), ("c", False)]


def test_a_reference_of_many_images_is_in_the_page_once(tmp_path, noise):
    def looks(seed):
        return Looks(image=noise(48, 64), reference=noise(48, 64, seed))

    page = write_page(
        tmp_path / "page.html", [(row(str(seed), 0.1), lambda seed=seed: looks(seed)) for seed in (1, 2, 1)]
    )
    first, second, third = (item["beside"]["reference"]["picture"] for item in read_page(page)[0]["items"])
    assert first.startswith("data:image/jpeg;base64,")
    assert second.startswith("data:image/jpeg;base64,")
    assert third == 0


@pytest.mark.parametrize("images", [1, 17, 200, 999, 1000, MOST_INSIDE])
def test_pictures_of_a_page_stay_within_its_size(images, noise):
    """Noise takes the most bytes of all pictures; so does its heat map."""
    sizes = Sizes.of_report(images, inside=True)
    picture = noise(600, 800)
    thumbnail = encoded(picture[: sizes.thumbnail, : sizes.thumbnail].copy(), ".webp", sizes.thumbnail_bytes)
    heat_map, _, _ = encoded_map(picture[..., 0].astype(np.float32), (0.0, 255.0), higher_is_better=True)
    larger = encoded(picture, ".jpg", sizes.picture_bytes) if sizes.picture else b""
    together = images * sum(4 * -(-len(data) // 3) for data in (thumbnail, heat_map, larger))
    assert together < PAGE_BYTES - 1000 * images  # a row takes less


def test_thumbnails_are_webp_and_heat_maps_see_through_where_there_is_no_value(tmp_path):
    values = np.full((48, 64), 0.25, np.float32)
    values[:, 32:] = np.nan
    page = write_page(
        tmp_path / "page.html",
        [(row("a", 0.1), lambda: Looks(image=plain().image, map=(values, (0.0, 1.0), False)))],
    )
    (item,) = read_page(page)[0]["items"]
    assert item["thumbnail"].startswith("data:image/webp;base64,")
    shown = item["beside"]["heat map"]
    assert (shown["worst"], shown["best"]) == (pytest.approx(0.275), pytest.approx(0.225))
    data = np.frombuffer(base64.b64decode(shown["picture"].partition(",")[2]), np.uint8)
    opacity = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., 3]
    assert (opacity[:, :31].min(), opacity[:, 33:].max()) == (255, 0)
