"""What is sure to be refused is refused at route shedding."""

from typing import Any

from prometheus_client import REGISTRY

from slipway_kit.overload import route_shedding as shedding
from slipway_kit.overload.queue_limit import PRESSED_SECONDS, Places, QueueLimit
from slipway_kit.overload.route_shedding import SURE, RouteShedding


class Full:
    """A queue limit that can be opened, before places that are held for a second."""

    def __init__(self) -> None:
        self.now, self.free = 0.0, False
        self.queue_limit = QueueLimit(
            "test", lambda: Places(self.free, 1, 5), clock=lambda: self.now
        )
        self.queue_limit.took(1)
        self.now = 1.0
        self.queue_limit.gave(0)
        assert self.queue_limit.refuses()


def request(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path}


def taught(full: Full, path: str = "/games/1", *, times: int = SURE) -> RouteShedding:
    found = RouteShedding()
    for _ in range(times):
        found.note(request(path), full.queue_limit)
    return found


def test_after_some_in_a_row_the_next_is_refused_whatever_its_id() -> None:
    full = Full()
    found = taught(full)
    for path in ("/games/1", "/games/22", "/games/1f0c-99ab"):
        assert found.limit_that_refuses(request(path)) is full.queue_limit
    for other in (request("/games"), request("/games/export"), request("/games/1", "PUT")):
        assert found.limit_that_refuses(other) is None
    assert taught(full, times=SURE - 1).limit_that_refuses(request("/games/1")) is None


def test_it_opens_with_the_gate() -> None:
    full = Full()
    found = taught(full)
    full.free = True
    assert found.limit_that_refuses(request("/games/1")) is None
    full.free = False
    assert found.limit_that_refuses(request("/games/1")) is full.queue_limit


def test_one_that_needed_nothing_opens_it() -> None:
    full = Full()
    found = taught(full)
    found.note(request("/games/7"), None)
    assert found.limit_that_refuses(request("/games/1")) is None


def test_another_gate_begins_anew() -> None:
    full, other = Full(), Full()
    found = taught(full)
    found.note(request("/games/1"), other.queue_limit)
    assert found.limit_that_refuses(request("/games/1")) is None


def test_what_comes_to_a_gate_that_refuses_nobody_is_not_remembered() -> None:
    full = Full()
    full.now += PRESSED_SECONDS
    found = taught(full)
    assert found.limit_that_refuses(request("/games/1")) is None
    assert not found._seen


def test_it_forgets_when_the_pressure_is_over() -> None:
    full = Full()
    found = taught(full)
    found.sample()
    assert found._seen
    full.now += PRESSED_SECONDS
    found.sample()
    assert not found._seen


def test_what_is_remembered_is_bounded() -> None:
    full, found = Full(), RouteShedding()
    for number in range(3 * shedding._MOST_KEYS):
        word = "".join(chr(ord("g") + int(digit)) for digit in str(number))
        found.note(request(f"/{word}"), full.queue_limit)
    assert len(found._seen) <= shedding._MOST_KEYS


def test_one_that_is_refused_there_is_counted_for_its_gate() -> None:
    full = Full()
    before = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"}) or 0
    full.queue_limit.count()
    after = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"})
    assert after == before + 1
