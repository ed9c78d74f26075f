"""The pages that `make docs` makes: whole, all links lead somewhere, found by the search, in a browser as from disk."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import chromium
import iqa_calibration
import iqa_export
import iqa_runtime

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    options = ["-c", "docs", "-b", "html", "--quiet", "--fail-on-warning", "--keep-going"]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Links(HTMLParser):
    """The places that a page has, and those that it leads to or shows."""

    def __init__(self, page):
        super().__init__()
        self.places, self.targets = set(), set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places.add(values.get("id"))
        self.targets |= {values[name] for name in ("href", "src") if values.get(name)}


def test_every_link_leads_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 50
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("http", "https", "mailto"), (page, target)
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert file.exists(), (page, target)
            if parts.fragment and file in pages:
                assert unquote(parts.fragment) in pages[file].places, (page, target)


def test_every_page_of_the_documentation_is_there(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT).with_suffix(".html")).exists()


@pytest.mark.parametrize("package", [iqa_runtime, iqa_export, iqa_calibration])
def test_what_a_package_offers_is_in_the_reference(site, package):
    places = Links(site / "docs" / "api.html").places
    ends = {place.rpartition(".")[2] for place in places if place}
    assert set(package.__all__) <= ends


@pytest.fixture(scope="module")
def browser():
    with chromium.started() as browser:
        yield browser


@pytest.mark.browser
def test_the_search_finds_a_page_from_disk(site, browser):
    with chromium.opened(browser, site / "index.html") as (page, seen):
        page.wait_for_url("**/docs/index.html")
        page.fill("input[name=q]", "quantiles of a population")
        page.press("input[name=q]", "Enter")
        results = page.locator("#search-results li a")
        results.first.wait_for()
        assert "iqa-eval" in results.all_inner_texts()
        results.first.click()
        page.wait_for_url("**/docs/evaluation.html*")
        assert not seen.complaints
        assert all(request.startswith("file:") for request in seen.requests)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["docs/index", "README", "docs/cli", "docs/models", "docs/api", "docs/figures"])
@pytest.mark.parametrize("width", [360, 1400])
def test_a_page_fits_the_window_and_shows_its_pictures(site, browser, name, width):
    with chromium.opened(browser, site / f"{name}.html", width=width) as (page, seen):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert not seen.complaints
