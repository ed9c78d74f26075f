"""The page of scored images as it is on screen, in a real browser."""

import re

import numpy as np
import pytest

from chromium import opened
from iqa_run import gray, run
from iqa_runtime.report.pictures import Looks
from report_pages import plain, row, write_page

pytestmark = pytest.mark.browser

HOSTILE = [
    '<script>document.title = "taken"; .jpg',
    '<img src=x onerror="document.title=1">"\'.jpg',
    "gpj.\u202eexe",
    "שלום.jpg",
]
REASONS = ["blur", "noise", "jpeg"]
MANY = 230
"""More rows than are added to the list at a time."""
ATTEMPTS = 200
"""To reach the end of the list: it takes four where the browser keeps up, and a busy host draws seldom."""


def judged(index):
    """Return a row of its own; scores rise with the index, from 0 to almost 1."""
    score = index / MANY
    name = HOSTILE[index] if index < len(HOSTILE) else f"photo {index:03}.jpg"
    return row(
        f"set {index % 2}/{name}",
        score,
        verdict="fail" if score < 0.4 else "pass",
        reasons=[REASONS[index % 3]] if score < 0.4 else [],
        percentile=100 * score,
        measures={"sharpness": 12.3456, "exposure": None},
        group=index // 10,
        rank=index % 10,
    )


def looks():
    values = np.tile(np.linspace(0.2, 0.8, 64, dtype=np.float32), (48, 1))
    return Looks(image=plain(40).image, reference=plain(220).image, map=(values, (0.0, 1.0), True))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    rows = [(judged(index), looks) for index in range(MANY)]
    rows.append((row("<b>broken</b>.jpg", None, error='no <image> "at" all'), Looks))
    return write_page(tmp_path_factory.mktemp("pages") / "many.html", rows)


@pytest.fixture
def page(browser, many):
    """The page, opened; whatever a test does with it, it asks for nothing and complains about nothing."""
    with opened(browser, many) as (page, seen):
        yield page
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [many.absolute().as_uri()]


def shown_scores(page):
    return [float(text) for text in page.locator("tbody td.score").all_inner_texts()]


def count(page):
    return page.locator("#count").inner_text()


def test_worst_come_first_and_the_order_turns(page):
    assert count(page) == f"{MANY} images"
    assert page.locator("#lead").inner_text().startswith(f"{MANY + 1} images · 92 worse than the threshold · 1 without")
    scores = shown_scores(page)
    assert (scores, scores[0]) == (sorted(scores), 0.0)
    page.get_by_role("button", name="score", exact=True).click()
    scores = shown_scores(page)
    assert scores == sorted(scores, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("score")
    assert page.locator("#order").input_value() == "best"
    page.locator("#order").select_option("name")
    paths = sorted(judged(index)["path"] for index in range(MANY))
    shown = page.locator("tbody button").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert shown == [f"Open {path}".replace("\u202e", "\\u202e") for path in paths[: len(shown)]]


def test_lower_scores_come_last_where_they_are_the_better_ones(browser, tmp_path):
    rows = [(row(name, score, direction="lower"), plain) for name, score in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    path = write_page(tmp_path / "lower.html", rows, higher_is_better=False)
    with opened(browser, path) as (page, _):
        assert shown_scores(page) == [3.0, 2.0, 1.0]
        assert page.locator("#low").inner_text() == "1.0000 best"


def test_rows_are_added_as_they_come_near(page):
    assert page.locator("tbody tr").count() < MANY
    for _ in range(ATTEMPTS):
        page.keyboard.press("End")
        page.wait_for_timeout(50)
        if page.locator("tbody tr").count() == MANY:
            break
    assert page.locator("tbody tr").count() == MANY


def test_verdict_reason_and_name_filter(page):
    page.locator("#verdict").select_option("fail")
    assert count(page) == f"92 of {MANY} images"
    assert set(page.locator("tbody td:nth-child(5)").all_inner_texts()) == {"fail"}
    page.locator("#reason").select_option("noise")
    assert count(page) == f"31 of {MANY} images"
    assert set(page.locator("tbody td:nth-child(6)").all_inner_texts()) == {"noise"}
    page.locator("#search").fill("PHOTO 01")
    assert count(page) == f"4 of {MANY} images"
    page.locator("#search").fill("nowhere")
    assert page.locator("#nothing").is_visible()
    page.locator("#clear").click()
    assert count(page) == f"{MANY} images"
    assert page.locator("#reason").input_value() == ""


def test_bars_of_the_histogram_select_by_pointer_and_by_keyboard(page):
    bars = page.locator("#bars button")
    assert bars.count() == 32
    bars.nth(0).click()
    assert count(page) == f"8 of {MANY} images"
    assert max(shown_scores(page)) < 1 / 32
    bars.nth(1).click(modifiers=["Shift"])
    assert page.locator("#bars [aria-pressed=true]").count() == 2
    bars.nth(2).hover()
    page.mouse.down()
    bars.nth(5).hover()
    page.mouse.up()
    assert page.locator("#bars [aria-pressed=true]").count() == 4
    assert re.fullmatch(r"0\.0622 to 0\.1867", page.locator("#chosen").inner_text())
    page.keyboard.press("Escape")
    assert count(page) == f"{MANY} images"
    bars.nth(0).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#bars [aria-pressed=true]").count() == 2


def test_names_are_text_whatever_they_hold(page):
    texts = page.locator("tbody .name bdi:not(.folder)").all_inner_texts()[: len(HOSTILE)]
    assert texts == [name.replace("\u202e", "\\u202e") for name in HOSTILE]
    assert page.title() == "tiny"
    assert page.locator("#messages").inner_text() == '<b>broken</b>.jpg\nno <image> "at" all'
    page.locator("summary").first.click()
    assert "<b>none</b>" in page.locator("#contract").inner_text()


def shades(page):
    """Return the mean brightness of the left and the right half of the picture on screen."""
    import cv2

    image = cv2.imdecode(np.frombuffer(page.locator("#stage").screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    middle = image.shape[1] // 2
    return image[:, : middle - 20].mean(), image[:, middle + 20 :].mean()


def test_slider_lays_heat_map_and_reference_over_the_picture(page):
    page.locator("tbody tr").nth(5).click()
    assert page.locator("#place").inner_text() == f"6 of {MANY}"
    assert page.locator("#scale").inner_text().split("\n") == ["worse 0.2", "0.8 better"]
    left, right = shades(page)
    assert left == pytest.approx(40, abs=2)  # the screen's and the encoder's rounding
    assert right > 100  # viridis rises to yellow there
    page.locator("#with").select_option("reference")
    assert shades(page) == pytest.approx((40, 220), abs=2)
    page.locator("#slider").focus()
    page.keyboard.press("End")
    assert shades(page) == pytest.approx((40, 40), abs=2)
    page.keyboard.press("Home")
    assert shades(page) == pytest.approx((220, 220), abs=2)
    area = page.locator("#stage").bounding_box()
    page.mouse.click(area["x"] + area["width"] / 2, area["y"] + 10)
    assert shades(page) == pytest.approx((40, 220), abs=2)


def test_detail_has_every_value_and_goes_on_by_keyboard(page):
    page.keyboard.press("/")
    page.keyboard.type("photo")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    facts = page.locator("#facts").inner_text().split("\n")
    pairs = dict(zip(facts[::2], facts[1::2], strict=True))
    assert pairs["sharpness"] == "12.35"
    assert (pairs["group"], pairs["rank"], pairs["size"]) == ("0", "5", "64\u00a0×\u00a048")
    assert "exposure" not in pairs
    assert page.locator("#name").inner_text() == "set 1/\nphoto 005.jpg"
    page.keyboard.press("ArrowRight")
    assert page.locator("#name").inner_text() == "set 0/\nphoto 006.jpg"
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.evaluate("document.activeElement.ariaLabel") == "Open set 0/photo 006.jpg"


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window_and_has_contrast(browser, many, width, scheme):
    with opened(browser, many, width=width, color_scheme=scheme) as (page, seen):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        ground, text = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        brightness = [sum(map(int, re.findall(r"\d+", color)[:3])) / 3 for color in (ground, text)]
        assert (brightness[0] > brightness[1]) == (scheme == "light")
        assert abs(brightness[0] - brightness[1]) > 180
        assert page.locator("tbody td.score").first.is_visible()
        page.locator("tbody tr").first.click()
        box = page.locator("dialog").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
        assert seen.complaints == []


def test_pictures_beside_the_page_are_shown_too(browser, tmp_path, monkeypatch, artefacts):
    monkeypatch.setattr("iqa_runtime.commands.reporting.MOST_INSIDE", 1)
    gray(tmp_path / "shots/a.png", 51)
    gray(tmp_path / "shots/b.png", 204)
    run(artefacts.mapped(), tmp_path / "shots", "--report", tmp_path / "page #1.html")
    with opened(browser, tmp_path / "page #1.html") as (page, seen):
        decoded = (
            "async all => { for (const each of all) await each.decode(); return all.map(each => each.naturalWidth) }"
        )
        assert page.locator("tbody img").evaluate_all(decoded) == [64, 64]
        page.locator("tbody tr").first.click()
        assert page.locator("#stage img").evaluate_all(decoded) == [64, 64, 64]
        assert seen.complaints == []
        assert all(url.startswith("file:///") for url in seen.requests)


def test_page_of_failures_alone_lists_them(browser, tmp_path):
    path = write_page(tmp_path / "failed.html", [(row("a.jpg", None, error="truncated"), Looks)], interrupted=True)
    with opened(browser, path) as (page, seen):
        assert page.locator("#messages").inner_text() == "a.jpg\ntruncated"
        assert page.locator(".notice").inner_text().startswith("The run was ended early")
        assert not page.locator("#table").is_visible()
        assert seen.complaints == []
