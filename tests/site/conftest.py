"""The site that `make docs` built, served on this machine, and a browser to look at it."""

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools import docs_site

# The browser's support is the library's.
sys.path.insert(0, str(docs_site.TEMPLATE / "kit/src"))

from kit.tests.support.browser import HOST, Page, open_browser, open_page


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    """The address of the site, under a name that is not local."""
    handler = partial(_Quiet, directory=str(docs_site.SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def tab() -> Iterator[Page]:
    """One tab for all tests: a new one for each would take most of their time."""
    with open_browser() as address, open_page(address) as page:
        yield page


@pytest.fixture
def page(tab: Page) -> Page:
    """The tab, without what earlier tests did in it."""
    tab.requests.clear()
    tab.complaints.clear()
    return tab
