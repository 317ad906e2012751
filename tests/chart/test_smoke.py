"""The script of `helm test` finds what is wrong with a service, and waits for one that is late."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO
from typing import Self

import pytest

from tests.chart import charts

API, METRICS = f"http://{charts.NAME}:81", f"http://{charts.NAME}-metrics:9000/metrics"
ASKED = [
    *(f"{API}/startupz", f"{API}/livez", f"{API}/readyz", f"{API}/health", f"{API}/games"),
    *(f"{API}/no-such-page", METRICS),
]
LATE_SECONDS = 30


@dataclass
class Answer:
    """What urlopen returns."""

    status: int = 200
    kind: str = "application/json"
    body: bytes = b"http_request_duration_highr_seconds_count 1.0"

    @property
    def headers(self) -> Message:
        headers = Message()
        headers["Content-Type"] = self.kind
        return headers

    def read(self) -> bytes:
        return self.body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class Network:
    """Answers the script, and counts the seconds that it waits."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    away_until: float = 0
    now: float = 0
    refused: int = 0
    asked: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    timeouts: set[float] = field(default_factory=set)

    def open(self, url: str, timeout: float) -> Answer:
        self.timeouts.add(timeout)
        if self.now < self.away_until:
            self.refused += 1
            assert self.refused < 100, "asks without a pause"
            raise urllib.error.URLError("connection refused")
        self.asked.append(url)
        missing = Answer(404, "application/problem+json") if url.endswith("/no-such-page") else None
        answer = self.answers.get(url) or missing or Answer()
        if answer.status >= 400:
            body = BytesIO(answer.body)
            raise urllib.error.HTTPError(url, answer.status, "", answer.headers, body)
        return answer

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture(scope="module")
def script() -> str:
    values = {"service": {"port": 81}, "tests": {"paths": ["/health", "/games"]}}
    job = charts.render(values).find("Job", f"{charts.NAME}-test")
    return str(charts.container(job)["command"][-1])


@pytest.fixture
def run(script: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Network], None]:
    """Run the script in this process, with a network and a clock of the test's own."""

    def start(network: Network) -> None:
        monkeypatch.setattr(urllib.request, "urlopen", network.open)
        monkeypatch.setattr(time, "monotonic", lambda: network.now)
        monkeypatch.setattr(time, "sleep", network.sleep)
        exec(compile(script, "smoke", "exec"), {})

    return start


def test_every_page_is_asked_for_once_with_patience(
    run: Callable[[Network], None], capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    run(network)
    assert (network.asked, network.waits, network.timeouts) == (ASKED, [], {5})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        *("/startupz 200", "/livez 200", "/readyz 200", "/health 200", "/games 200"),
        "all of it answers",
    ]


@pytest.mark.parametrize("url", [url for url in ASKED if not url.endswith("/no-such-page")])
@pytest.mark.parametrize("status", [201, 404, 500])
def test_a_page_that_does_not_answer_200_is_told(
    url: str, status: int, run: Callable[[Network], None]
) -> None:
    network = Network({url: Answer(status, body=b"out of order")})
    with pytest.raises(AssertionError, match=f"{status}, b'out of order'"):
        run(network)
    assert network.asked == ASKED[: ASKED.index(url) + 1]


@pytest.mark.parametrize("answer", [Answer(), Answer(404), Answer(500, "application/problem+json")])
def test_a_page_that_is_not_there_is_a_problem_of_the_service_itself(
    answer: Answer, run: Callable[[Network], None]
) -> None:
    """Another server's 404 would say that the requests go astray."""
    with pytest.raises(AssertionError, match=re.escape(f"{answer.status}, '{answer.kind}'")):
        run(Network({f"{API}/no-such-page": answer}))


def test_metrics_without_those_of_the_service_are_told(run: Callable[[Network], None]) -> None:
    with pytest.raises(AssertionError, match="python_info"):
        run(Network({METRICS: Answer(body=b"python_info 1.0")}))


def test_a_long_answer_is_not_told_as_a_whole(run: Callable[[Network], None]) -> None:
    with pytest.raises(AssertionError) as told:
        run(Network({METRICS: Answer(body=b"#" * 9000)}))
    assert str(told.value).count("#") == 500


def test_a_service_that_is_late_is_waited_for(run: Callable[[Network], None]) -> None:
    network = Network(away_until=LATE_SECONDS)
    run(network)
    assert network.asked == ASKED
    assert network.waits == [0.5] * 60


def test_a_service_that_does_not_come_is_given_up(run: Callable[[Network], None]) -> None:
    network = Network(away_until=LATE_SECONDS + 1)
    with pytest.raises(urllib.error.URLError, match="connection refused"):
        run(network)
    assert network.now == LATE_SECONDS + 0.5
