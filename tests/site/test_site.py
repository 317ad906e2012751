"""The site in a real browser: on a phone, in the dark, with no other host to ask."""

import json
import re
import time
from pathlib import Path

import pytest

from kit.tests.support.browser import TEXT, Page
from tools import docs_site

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
# Of each kind some, and every page of the guide.
SOME = [
    "",
    "docs/measurements/",
    "docs/adr/0013-requests-that-would-wait-too-long-are-refused/",
    "docs/reference/slipway_kit.concurrency/",
    "kit/docs/contract/",
    "kit/docs/how-it-works/",
    "kit/docs/map/",
    "service/",
    "service/docs/runbook/",
    "source/kit/src/slipway_kit/server/worker.py/",
]
GUIDE = [
    f"docs/guide/{'' if each.stem == 'index' else f'{each.stem}/'}"
    for each in sorted((docs_site.TEMPLATE / "docs/guide").glob("*.md"))
]
PHONE, SCREEN = 390, 1280
# What a page fetches without being asked, and where from.
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>"
)
# The scheme changes within this time, in small steps.
FADES_SECONDS = 2


def visit(page: Page, url: str, *, width: int, dark: bool) -> None:
    page.look(width=width, dark=dark)
    page.visit(url)
    page.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")


def hard_to_read(page: Page) -> dict[str, str]:
    """Return what has too little contrast when nothing fades any more."""
    give_up = time.monotonic() + FADES_SECONDS
    while (found := page.ask(CONTRAST)) and time.monotonic() < give_up:
        time.sleep(0.1)
    return dict(found)


def scheme(page: Page, name: str) -> None:
    page.wait(f"document.body.getAttribute('data-md-color-scheme') === '{name}'")


def test_no_page_fetches_anything_from_another_host() -> None:
    pages = list(docs_site.SITE.rglob("*.html"))
    assert len(pages) > 100
    foreign = {
        f"{page.relative_to(docs_site.SITE)}: {tag}"
        for page in pages
        for tag in FETCHED.findall(page.read_text(encoding="utf-8"))
    }
    assert foreign == set()


@pytest.mark.parametrize("path", [*SOME, *GUIDE])
def test_a_page_is_readable_on_a_phone_in_both_schemes(path: str, origin: str, page: Page) -> None:
    html = (docs_site.SITE / path / "index.html").read_text(encoding="utf-8")
    diagrams = html.count('<pre class="mermaid">')
    visit(page, f"{origin}/{path}", width=PHONE, dark=True)
    scheme(page, "slate")
    drawn = "[...document.querySelectorAll('div.mermaid')].filter(each => each.offsetHeight > 40)"
    page.wait(f"{drawn}.length === {diagrams}")
    assert page.ask("document.documentElement.scrollWidth") <= PHONE
    assert hard_to_read(page) == {}
    page.look(width=PHONE, dark=False)
    scheme(page, "default")
    assert hard_to_read(page) == {}
    assert page.complaints == []
    assert page.asked_of_others(origin) == []


def test_a_wide_diagram_keeps_its_size_on_a_phone(origin: str, page: Page) -> None:
    visit(page, f"{origin}/docs/guide/loop/", width=PHONE, dark=False)
    wide = (
        "[...document.querySelectorAll('div.mermaid')].filter(e => e.scrollWidth > e.clientWidth)"
    )
    page.wait(f"{wide}.length === 2")


def test_a_page_fits_a_screen_with_its_navigation(origin: str, page: Page) -> None:
    visit(page, f"{origin}/docs/guide/checklist/", width=SCREEN, dark=False)
    assert page.ask("document.documentElement.scrollWidth") <= SCREEN
    tabs = page.ask("document.querySelector('.md-tabs').innerText").split("\n")
    assert [each.strip() for each in tabs] == [
        *("Slipway", "Guide", "Library", "Reference", "A service", "Decisions"),
    ]


def test_search_finds_a_word_and_leads_to_it(origin: str, page: Page) -> None:
    field = "document.querySelector('[data-md-component=search-query]')"
    links = "[...document.querySelectorAll('a.md-search-result__link')].map(each => each.href)"
    visit(page, f"{origin}/", width=SCREEN, dark=False)
    page.ask(f"{field}.focus()")
    page.ask(f"{field}.value = 'handshake'")
    page.ask(f"{field}.dispatchEvent(new Event('input', {{ bubbles: true }}))")
    page.ask(f"{field}.dispatchEvent(new KeyboardEvent('keyup', {{ bubbles: true }}))")
    found = page.wait(f"{links}.join(' ')").split()
    assert all(each.startswith(f"{origin}/") for each in found)
    # Source files are pages, and not what a reader looks for.
    assert not any("/source/" in each for each in found)
    visit(page, found[0], width=SCREEN, dark=False)
    assert "handshake" in page.ask(TEXT).lower()
    assert page.asked_of_others(origin) == []


def test_pale_text_is_found(origin: str, page: Page) -> None:
    visit(page, f"{origin}/docs/guide/faq/", width=PHONE, dark=False)
    page.ask("document.querySelector('article p').style.color = '#999'")
    assert len(page.ask(CONTRAST)) == 1
