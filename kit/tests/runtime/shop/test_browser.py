import json

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import GUNICORN
from kit.tests.runtime.shop.test_till import call
from kit.tests.support.browser import HOST, open_browser, open_page
from kit.tests.support.prefix import stripping


def test_a_game_is_added_by_trying_it_out_on_the_page(start: Start) -> None:
    service = start(GUNICORN, DOCS_ENABLED="true", ROOT_PATH="/shop", WEB_CONCURRENCY=1)
    with (
        open_browser() as browser,
        stripping("/shop", service.port) as port,
        open_page(browser) as page,
    ):
        origin = f"http://{HOST}:{port}"
        page.visit(f"{origin}/shop/docs")
        page.click("#operations-games-add_game .opblock-summary-control")
        page.click("#operations-games-add_game .try-out__btn")
        page.click("#operations-games-add_game button.execute")
        answer = "document.querySelector('.live-responses-table tbody .response-col_description')"
        shown = page.wait(f"{answer}?.innerText")
        assert page.complaints == []
        assert page.asked_of_others(origin) == []
    games = call(service, "GET", "/games")
    assert isinstance(games, dict)
    (game,) = games["games"]
    call(service, "DELETE", f"/games/{game['id']}")
    assert (game["name"], game["price"]) == ("Catan", "49.90")
    assert f'"id": {game["id"]}' in shown
    assert json.dumps(game["in_stock"]) in shown
