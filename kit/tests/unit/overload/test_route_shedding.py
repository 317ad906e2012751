"""Requests whose route needs a full resource are shed on arrival."""

from typing import Any

from prometheus_client import REGISTRY

from slipway_kit.overload import route_shedding as shedding
from slipway_kit.overload.queue_limit import SHEDDING_SECONDS, PoolState, QueueLimit
from slipway_kit.overload.route_shedding import MIN_IN_A_ROW, RouteShedding


class Full:
    """A queue limit that sheds load until `free` is set; its service time is a second."""

    def __init__(self) -> None:
        self.now, self.free = 0.0, False
        self.queue_limit = QueueLimit(
            "test", lambda: PoolState(self.free, 1, 5), clock=lambda: self.now
        )
        self.queue_limit.acquired(1)
        self.now = 1.0
        self.queue_limit.released(0)
        assert self.queue_limit.refuses()


def request(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path}


def recorded(full: Full, path: str = "/games/1", *, times: int = MIN_IN_A_ROW) -> RouteShedding:
    routes = RouteShedding()
    for _ in range(times):
        routes.record(request(path), full.queue_limit)
    return routes


def test_after_some_in_a_row_the_next_is_refused_whatever_its_id() -> None:
    full = Full()
    routes = recorded(full)
    for path in ("/games/1", "/games/22", "/games/1f0c-99ab"):
        assert routes.refusing_limit(request(path)) is full.queue_limit
    for other in (request("/games"), request("/games/export"), request("/games/1", "PUT")):
        assert routes.refusing_limit(other) is None
    assert recorded(full, times=MIN_IN_A_ROW - 1).refusing_limit(request("/games/1")) is None


def test_it_admits_as_soon_as_the_limit_does() -> None:
    full = Full()
    routes = recorded(full)
    full.free = True
    assert routes.refusing_limit(request("/games/1")) is None
    full.free = False
    assert routes.refusing_limit(request("/games/1")) is full.queue_limit


def test_a_request_that_needed_no_limit_resets_its_route() -> None:
    full = Full()
    routes = recorded(full)
    routes.record(request("/games/7"), None)
    assert routes.refusing_limit(request("/games/1")) is None


def test_another_limit_starts_the_count_again() -> None:
    full, other = Full(), Full()
    routes = recorded(full)
    routes.record(request("/games/1"), other.queue_limit)
    assert routes.refusing_limit(request("/games/1")) is None


def test_a_limit_that_sheds_no_load_is_not_recorded() -> None:
    full = Full()
    full.now += SHEDDING_SECONDS
    routes = recorded(full)
    assert routes.refusing_limit(request("/games/1")) is None
    assert not routes._seen


def test_it_forgets_routes_once_their_limit_sheds_no_load() -> None:
    full = Full()
    routes = recorded(full)
    routes.sample()
    assert routes._seen
    full.now += SHEDDING_SECONDS
    routes.sample()
    assert not routes._seen


def test_the_recorded_routes_are_bounded() -> None:
    full, routes = Full(), RouteShedding()
    for number in range(3 * shedding._MAX_ROUTES):
        word = "".join(chr(ord("g") + int(digit)) for digit in str(number))
        routes.record(request(f"/{word}"), full.queue_limit)
    assert len(routes._seen) <= shedding._MAX_ROUTES


def test_a_shed_request_is_counted_by_its_limit() -> None:
    full = Full()
    before = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"}) or 0
    full.queue_limit.count_refusal()
    after = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"})
    assert after == before + 1
