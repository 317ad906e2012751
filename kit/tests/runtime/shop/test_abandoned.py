"""What becomes of a request whose client does not wait for the answer."""

import json
import socket

import httpx2

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import GUNICORN
from slipway_kit.testing.waiting import eventually


def test_what_a_client_asked_for_before_it_left_is_committed(start: Start) -> None:
    service = start(GUNICORN, WEB_CONCURRENCY=1)
    url = f"http://127.0.0.1:{service.port}/api/v1/games"
    for number in range(10):
        body = json.dumps({"name": f"left {number}", "price": "1"}).encode()
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(
                b"POST /api/v1/games HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )

    def left() -> list[int]:
        games = httpx2.get(url, params={"limit": 100}).json()["games"]
        return [game["id"] for game in games if game["name"].startswith("left ")]

    eventually(lambda: len(left()) == 10)
    for each in left():
        httpx2.delete(f"{url}/{each}")
