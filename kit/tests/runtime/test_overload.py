"""More requests than a worker can serve: some are refused at once, and none is lost or late."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import Service, ask, connected
from slipway_kit.testing.waiting import eventually

CLIENTS, EACH = 30, 15
# Half a minute of work, were it all served one after another.
WORK = "/scenarios/block?seconds=0.06"
HOLD = "/scenarios/thread?seconds=0.3"


def insist(service: Service, path: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Ask again and again on one connection, whatever the answer."""
    with connected(service.port, timeout=60) as connection:
        return [ask(connection, path) for _ in range(EACH)]


def crowd(service: Service, path: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Have many insist at once."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        found = [clients.submit(insist, service, path) for _ in range(CLIENTS)]
        return [answer for each in found for answer in each.result()]


def check_refusals(answers: list[tuple[int, dict[str, str], bytes]]) -> int:
    """Return how many were refused, each with a problem that says when to come back."""
    refused = [answer for answer in answers if answer[0] != 200]
    for status, headers, body in refused:
        problem: dict[str, Any] = json.loads(body)
        assert (status, headers["retry-after"], problem["status"]) == (503, "1", 503)
        assert headers["x-request-id"] == problem["request_id"]
        assert headers["x-content-type-options"] == "nosniff"
    return len(refused)


@pytest.mark.parametrize("way", ["protocol", "middleware"])
def test_what_the_cpu_cannot_serve_is_refused_at_once_and_probes_never_are(
    start: Start, way: str
) -> None:
    service = start(WEB_CONCURRENCY=1, ADMISSION=way)
    with ThreadPoolExecutor(1) as prober:
        probes = prober.submit(insist, service, "/livez")
        answers = crowd(service, WORK)
        assert {status for status, _, _ in probes.result()} == {200}
    refused = check_refusals(answers)
    served = len(answers) - refused
    assert refused > 0
    assert served > 0
    assert service.get(WORK)[0] == 200
    name = 'admission_refused_total{limit="event_loop"}'
    eventually(lambda: service.metrics()[name] == refused)
    eventually(lambda: service.metrics()["admission_admitted_total"] == served + 1)
    assert eventually(lambda: service.events("requests refused"))
    # Those in the protocol are not routed: they are counted here and not as requests.
    assert len(service.events("request")) == served + EACH + 1


def test_what_threads_cannot_serve_is_refused_at_once(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1, THREADPOOL_TOKENS=2)
    # Before the first one is back nobody knows how long a thread is held.
    assert service.get(HOLD)[0] == 200
    refused = check_refusals(crowd(service, HOLD))
    assert refused > 0
    assert service.get(HOLD)[0] == 200
    eventually(lambda: service.metrics()['admission_refused_total{limit="threads"}'] == refused)


def test_switched_off_everything_is_let_in(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1, ADMISSION="off")
    assert check_refusals(crowd(service, "/scenarios/block?seconds=0.004")) == 0
