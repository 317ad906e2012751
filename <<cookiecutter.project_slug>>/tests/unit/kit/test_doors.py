"""What is sure to be refused is refused at the door."""

from typing import Any

from prometheus_client import REGISTRY

from slipway_kit.overload import route_shedding as doors
from slipway_kit.overload.queue_limit import PRESSED_SECONDS, Gate, Places
from slipway_kit.overload.route_shedding import SURE, Doors


class Full:
    """A gate that can be opened, before places that are held for a second."""

    def __init__(self) -> None:
        self.now, self.free = 0.0, False
        self.gate = Gate("test", lambda: Places(self.free, 1, 5), clock=lambda: self.now)
        self.gate.took(1)
        self.now = 1.0
        self.gate.gave(0)
        assert self.gate.refuses()


def request(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path}


def taught(full: Full, path: str = "/games/1", *, times: int = SURE) -> Doors:
    found = Doors()
    for _ in range(times):
        found.note(request(path), full.gate)
    return found


def test_after_some_in_a_row_the_next_is_refused_whatever_its_id() -> None:
    full = Full()
    found = taught(full)
    for path in ("/games/1", "/games/22", "/games/1f0c-99ab"):
        assert found.shut_for(request(path)) is full.gate
    for other in (request("/games"), request("/games/export"), request("/games/1", "PUT")):
        assert found.shut_for(other) is None
    assert taught(full, times=SURE - 1).shut_for(request("/games/1")) is None


def test_it_opens_with_the_gate() -> None:
    full = Full()
    found = taught(full)
    full.free = True
    assert found.shut_for(request("/games/1")) is None
    full.free = False
    assert found.shut_for(request("/games/1")) is full.gate


def test_one_that_needed_nothing_opens_it() -> None:
    full = Full()
    found = taught(full)
    found.note(request("/games/7"), None)
    assert found.shut_for(request("/games/1")) is None


def test_another_gate_begins_anew() -> None:
    full, other = Full(), Full()
    found = taught(full)
    found.note(request("/games/1"), other.gate)
    assert found.shut_for(request("/games/1")) is None


def test_what_comes_to_a_gate_that_refuses_nobody_is_not_remembered() -> None:
    full = Full()
    full.now += PRESSED_SECONDS
    found = taught(full)
    assert found.shut_for(request("/games/1")) is None
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
    full, found = Full(), Doors()
    for number in range(3 * doors._MOST_KEYS):
        word = "".join(chr(ord("g") + int(digit)) for digit in str(number))
        found.note(request(f"/{word}"), full.gate)
    assert len(found._seen) <= doors._MOST_KEYS


def test_one_that_is_refused_there_is_counted_for_its_gate() -> None:
    full = Full()
    before = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"}) or 0
    full.gate.count()
    after = REGISTRY.get_sample_value("admission_refused_total", {"limit": "test"})
    assert after == before + 1
