"""Debian's Chromium, driven by Playwright: pages whose every complaint is kept, from disk without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")

_ARGUMENTS = [
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]


@dataclass(slots=True)
class Seen:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def started() -> Iterator[Browser]:
    """Start the browser that is installed; none is ever downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, page_at: Path | str, *, width: int = 1400, height: int = 900, **options: Any
) -> Iterator[tuple[Page, Seen]]:
    """Open a page from disk, or that of an address."""
    is_file = isinstance(page_at, Path)
    context = browser.new_context(viewport={"width": width, "height": height}, offline=is_file, **options)
    page, seen = context.new_page(), Seen()
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(page_at.absolute().as_uri() if isinstance(page_at, Path) else page_at)
    yield page, seen
    context.close()
