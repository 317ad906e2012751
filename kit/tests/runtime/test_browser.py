"""The pages of the API in a real browser, under a name that is not local."""

from app import about
from kit.tests.runtime.conftest import Start
from kit.tests.support.browser import HOST, TEXT, Page, open_browser, open_page
from kit.tests.support.prefix import stripping

TITLES = {
    "/docs": "document.querySelector('.swagger-ui .info .title')?.innerText",
    "/redoc": "document.querySelector('.api-info h1')?.innerText",
}


def see(page: Page, origin: str, path: str, *, prefix: str = "") -> None:
    """Visit a page and see that it is whole and minds its own business."""
    page.visit(f"{origin}{prefix}{path}")
    assert about.VERSION in page.wait(TITLES[path])
    page.wait(f"{TEXT}.includes('/scenarios/pid')")
    assert page.complaints == []
    assert page.asked_of_others(origin) == []
    assert f"{origin}{prefix}/openapi.json" in page.requests


def test_the_pages_work_behind_a_proxy_that_strips_a_prefix(start: Start) -> None:
    service = start(DOCS_ENABLED="true", ROOT_PATH="/shop")
    with open_browser() as browser, stripping("/shop", service.port) as port:
        for path in TITLES:
            with open_page(browser) as page:
                see(page, f"http://{HOST}:{port}", path, prefix="/shop")


def test_the_pages_ask_nobody_else_and_are_kept_from_it(start: Start) -> None:
    service = start(DOCS_ENABLED="true")
    origin = f"http://{HOST}:{service.port}"
    with open_browser() as browser:
        for path in TITLES:
            with open_page(browser) as page:
                see(page, origin, path)
                page.ask("fetch('https://elsewhere.example/').catch(() => 0)")
                assert any("Content Security Policy" in text for text in page.complaints)


def test_the_browser_tells_of_what_a_page_does_wrong(start: Start) -> None:
    service = start()
    origin = f"http://{HOST}:{service.port}"
    with open_browser() as browser, open_page(browser) as page:
        page.visit(f"{origin}/health")
        page.wait(f"{TEXT}.includes('healthy')")
        page.ask("console.error('broken')")
        page.ask("fetch('https://elsewhere.example/').catch(() => 0)")
    assert any("broken" in text for text in page.complaints)
    assert page.asked_of_others(origin) == ["https://elsewhere.example/"]
