import json
import urllib.request
from contextlib import ExitStack

from websockets.sync.client import connect

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import GUNICORN, Service
from slipway_kit.testing.waiting import eventually


def call(service: Service, method: str, path: str, body: object = None) -> object:
    """Send one request and return its body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}/api/v1{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        content = response.read()
    return json.loads(content) if content else None


def test_every_till_sees_the_newest_price_whichever_worker_serves_it(start: Start) -> None:
    service = start(GUNICORN, WEB_CONCURRENCY=2)
    game = {"name": "Catan", "price": "10.00", "in_stock": True}
    added = call(service, "POST", "/games", game)
    assert isinstance(added, dict)
    address = f"ws://127.0.0.1:{service.port}/api/v1/games/till"
    try:
        with ExitStack() as stack:
            tills = [stack.enter_context(connect(address)) for _ in range(12)]
            for price in ("10.00", "12.00", "9.50"):
                call(service, "PUT", f"/games/{added['id']}", {**game, "price": price})
                for till in tills:
                    till.send(json.dumps({"id": added["id"]}))
                answers = [json.loads(till.recv(timeout=10)) for till in tills]
                assert {answer["price"] for answer in answers} == {price}
    finally:
        call(service, "DELETE", f"/games/{added['id']}")


def test_a_token_in_the_query_of_a_till_is_logged_nowhere(start: Start) -> None:
    service = start(GUNICORN, WEB_CONCURRENCY=1, LOG_LEVEL="DEBUG")
    address = f"ws://127.0.0.1:{service.port}/api/v1/games/till?token=hunter2"
    with connect(address, additional_headers={"Authorization": "hunter2"}) as till:
        till.send("hunter2")
        till.recv(timeout=10)
    eventually(lambda: service.events_so_far("request"))
    (line,) = [line for line in service.events("request") if line["method"] == "WEBSOCKET"]
    assert (line["route"], line["status"]) == ("/api/v1/games/till", 101)
    assert "hunter2" not in service.text
    assert "WebSocket" not in service.text
