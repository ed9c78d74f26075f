"""The page at ``/`` as it is on screen, in a real browser."""

import re
from contextlib import contextmanager

import pytest

from chromium import opened
from eventually import DEADLINE

pytestmark = [pytest.mark.browser, pytest.mark.serve]

TOKEN = "correct-horse-battery"
HOSTILE = ['<img src=x onerror="document.title=1">.png', "gpj.\u202eexe", "שלום.png"]


@contextmanager
def page_of(browser, server, **options):
    """Open the page; whatever a test does with it, it asks nobody but its own server."""
    with opened(browser, server.url, **options) as (page, seen):
        page.set_default_timeout(1000 * DEADLINE)
        yield page
        assert all(url.startswith((server.url, "data:")) for url in seen.requests)
        # A browser tells of every answer that is no success.
        unexpected = [text for text in seen.complaints if "the server responded with a status of" not in text]
        assert [text for text in unexpected if not text.startswith("Autofocus")] == []


def files_of(picture, *names):
    return [{"name": name, "mimeType": "image/png", "buffer": picture(seed)} for seed, name in enumerate(names)]


def choose(page, files, input_id="files"):
    page.locator("#zone").wait_for()
    page.locator(f"#{input_id}").set_input_files(files)


def wait_for_all(page, failed=0):
    page.locator("#going").wait_for()
    page.locator("#progress").wait_for(state="hidden")
    if failed:
        page.locator("#failed", has_text=str(failed)).wait_for()


def shown_scores(page):
    return [float(text) for text in page.locator("tbody td.score").all_inner_texts()]


def test_pictures_are_shown_from_the_worst_on_under_their_names(browser, serve, artefact, picture):
    broken = {"name": "<b>broken</b>.png", "mimeType": "image/png", "buffer": b"none"}
    with serve(artefact()) as server, page_of(browser, server) as page:
        choose(page, [*files_of(picture, *HOSTILE), broken])
        wait_for_all(page, failed=1)
        page.locator("tbody tr").nth(2).wait_for()
        scores = shown_scores(page)
        assert (len(scores), scores) == (3, sorted(scores))
        names = page.locator("tbody .name bdi").all_inner_texts()
        assert sorted(names) == sorted(name.replace("\u202e", "\\u202e") for name in HOSTILE)
        messages = page.locator("#messages").inner_text().split("\n")
        assert messages[0] == "<b>broken</b>.png"
        assert messages[1].startswith("this is no image")
        assert page.title() == "Image quality"
        expected = {server.post(content=picture(seed)).json()["score"] for seed in range(len(HOSTILE))}
        assert {f"{score:.4f}" for score in scores} == {f"{score:.4f}" for score in expected}
        choose(page, files_of(picture, "later.png"))
        page.locator("tbody tr").nth(3).wait_for()
        assert page.locator("#count").inner_text() == "4 images"
        page.locator("#anew").click()
        assert page.locator("tbody tr").count() == 0


def test_pictures_can_be_dropped(browser, serve, artefact, picture):
    content = list(picture())
    with serve(artefact()) as server, page_of(browser, server) as page:
        page.locator("#zone").wait_for()
        dropped = page.evaluate_handle(
            """bytes => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
                return data;
            }""",
            content,
        )
        page.dispatch_event("#zone", "dragover", {"dataTransfer": dropped})
        assert page.locator("#zone.over").count() == 1
        page.dispatch_event("#zone", "drop", {"dataTransfer": dropped})
        page.locator("tbody .name bdi", has_text="dropped.png").wait_for()
        assert page.locator("#zone.over").count() == 0


def test_token_is_asked_for_and_kept_to_itself(browser, serve, artefact, picture, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with serve(artefact(), token_file=token) as server, page_of(browser, server) as page:
        page.locator("#enter").wait_for()
        assert not page.locator("#zone").is_visible()
        page.keyboard.type("a/wrong/one")
        page.keyboard.press("Enter")
        page.locator("#refused", has_text="not the token").wait_for()
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        choose(page, files_of(picture, "a.png"))
        page.locator("tbody tr").wait_for()
        assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]


def test_a_token_that_has_changed_is_asked_for_again_and_no_picture_is_lost(
    browser, serve, artefact, picture, tmp_path
):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with serve(artefact(), token_file=token) as server, page_of(browser, server) as page:
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.locator("#zone").wait_for()
        server.service.token = b"another-" + TOKEN.encode()
        choose(page, files_of(picture, "a.png", "b.png"))
        page.locator("#enter").wait_for()
        page.locator("#token").fill(f"another-{TOKEN}")
        page.keyboard.press("Enter")
        page.locator("tbody tr").nth(1).wait_for()
        assert page.locator("#messages dt").count() == 0


def test_who_is_told_to_wait_asks_again(browser, serve, artefact, picture):
    with serve(artefact(), queue=1) as server, page_of(browser, server) as page:
        names = [f"{number}.png" for number in range(6)]
        choose(page, files_of(picture, *names))
        wait_for_all(page)
        page.locator("tbody tr").nth(5).wait_for()
        assert page.locator("#messages dt").count() == 0


def test_one_of_several_artefacts_is_chosen_and_a_reference_is_asked_for(browser, serve, artefact, picture):
    both = {"nr": artefact(), "fr": artefact("pair", task="fr")}
    with serve(both) as server, page_of(browser, server) as page:
        choose(page, files_of(picture, "a.png"))
        page.locator("tbody tr").wait_for()
        assert not page.locator("#compared").is_visible()
        page.locator("#artefact").select_option("fr")
        assert page.locator("tbody tr").count() == 0
        choose(page, files_of(picture, "a.png", "b.png"))
        page.locator("#trouble", has_text="Choose the reference").wait_for()
        choose(page, files_of(picture, "original.png"), "reference")
        page.locator("tbody tr").nth(1).wait_for()
        assert page.locator("#compared button").inner_text() == "original.png"
        assert not page.locator("#trouble").is_visible()
        assert 0.0 in shown_scores(page)
        page.locator("tbody tr").first.click()
        assert page.locator("#with").input_value() == "reference"


def test_all_of_it_can_be_done_by_keyboard(browser, serve, artefact, picture):
    with serve(artefact()) as server, page_of(browser, server) as page:
        page.locator("#zone").wait_for()
        # The browser tells of choosers a moment after the first listener; a key may be quicker.
        page.on("filechooser", lambda _: None)
        page.keyboard.press("Tab")
        with page.expect_file_chooser() as chosen:
            page.keyboard.press("Enter")
        chosen.value.set_files(files_of(picture, "a.png", "b.png"))
        wait_for_all(page)
        page.locator("tbody tr").nth(1).wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert page.locator("#place").inner_text() == "1 of 2"
        page.keyboard.press("ArrowRight")
        assert page.locator("#place").inner_text() == "2 of 2"
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()


def test_a_picture_that_is_looked_at_stays_when_others_come(browser, serve, artefact, picture):
    with serve(artefact()) as server, page_of(browser, server) as page:
        choose(page, files_of(picture, "a.png"))
        page.locator("tbody tr").click()
        page.locator("dialog").wait_for()
        choose(page, files_of(picture, "same.png", "b.png"))
        page.locator("#count", has_text="3 images").wait_for(state="attached")
        assert page.locator("#name").inner_text() == "a.png"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.ariaLabel") == "Open a.png"


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window_and_has_contrast(browser, serve, artefact, picture, width, scheme):
    both = {"nr": artefact(), "a-name-as-long-as-names-of-artefacts-may-be": artefact("pair", task="fr")}
    with serve(both) as server, page_of(browser, server, width=width, color_scheme=scheme) as page:
        page.locator("#zone").wait_for()
        page.locator("#artefact").select_option(index=1)
        choose(page, files_of(picture, f"{'original' * 12}.png"), "reference")
        choose(page, files_of(picture, f"{'long' * 30}.png", "b.png"))
        wait_for_all(page)
        page.locator("tbody tr").nth(1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colors = page.evaluate("['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])")
        ground, text = (sum(map(int, re.findall(r"\d+", color)[:3])) / 3 for color in colors)
        assert (ground > text) == (scheme == "light")
        assert abs(ground - text) > 180
