import asyncio
from dataclasses import dataclass

import pytest

from slipway_kit.http.probes import Check, Readiness
from slipway_kit.runtime import Runtime

pytestmark = pytest.mark.anyio

NO_ANSWER = "The broker does not answer."


class Broker:
    """Names what is `missing`, or raises when it is down, and counts the calls."""

    def __init__(self, missing: str | None = None) -> None:
        self.missing, self.down, self.asked = missing, False, 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def ask(self, runtime: Runtime) -> str | None:
        self.asked += 1
        await self.answering.wait()
        if self.down:
            raise ConnectionRefusedError
        return self.missing


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def readiness(broker: Broker, clock: Clock, *, once: bool = True) -> Readiness:
    return Readiness([Check(broker.ask, NO_ANSWER, once=once)], Runtime(), clock=clock)


async def test_without_checks_there_is_no_obstacle() -> None:
    assert await Readiness([], Runtime()).obstacle() is None


async def test_the_first_obstacle_is_reported_and_a_passed_check_runs_no_more(
    clock: Clock,
) -> None:
    fine, poor, poorer = Broker(), Broker("It has no queue."), Broker("It has no name.")
    checks = [Check(each.ask, NO_ANSWER, once=True) for each in (fine, poor, poorer)]
    ready = Readiness(checks, Runtime(), clock=clock)
    assert await ready.obstacle() == "It has no queue."
    clock.now += 1
    poor.missing = None
    assert await ready.obstacle() == "It has no name."
    assert (fine.asked, poor.asked, poorer.asked) == (1, 2, 2)


async def test_a_result_is_reused_for_a_second(clock: Clock) -> None:
    broker = Broker("It has no queue.")
    ready = readiness(broker, clock)
    await ready.obstacle()
    clock.now += 0.9
    await ready.obstacle()
    assert broker.asked == 1
    clock.now += 0.1
    broker.missing = None
    assert await ready.obstacle() is None
    assert broker.asked == 2


async def test_concurrent_probes_share_one_check(clock: Clock) -> None:
    broker = Broker()
    ready = readiness(broker, clock)
    assert await asyncio.gather(*(ready.obstacle() for _ in range(20))) == [None] * 20
    assert broker.asked == 1


async def test_a_prober_that_disconnects_does_not_cancel_the_check_of_others(clock: Clock) -> None:
    broker = Broker()
    broker.answering.clear()
    ready = readiness(broker, clock)
    impatient = asyncio.create_task(ready.obstacle())
    patient = asyncio.create_task(ready.obstacle())
    await asyncio.sleep(0)
    impatient.cancel()
    broker.answering.set()
    assert await patient is None
    assert broker.asked == 1


async def test_once_it_passed_an_outage_is_no_obstacle(clock: Clock) -> None:
    broker = Broker()
    ready = readiness(broker, clock)
    await ready.obstacle()
    broker.down = True
    clock.now += 60
    assert await ready.obstacle() is None
    assert broker.asked == 1


async def test_an_outage_is_an_obstacle_to_a_repeated_check(clock: Clock) -> None:
    broker = Broker()
    ready = readiness(broker, clock, once=False)
    assert await ready.obstacle() is None
    broker.down = True
    clock.now += 60
    assert await ready.obstacle() == NO_ANSWER
    broker.down = False
    clock.now += 60
    assert await ready.obstacle() is None


async def test_an_outage_before_the_first_pass_is_an_obstacle(clock: Clock) -> None:
    broker = Broker()
    broker.down = True
    ready = readiness(broker, clock)
    assert await ready.obstacle() == NO_ANSWER


async def test_a_check_over_its_deadline_is_an_obstacle(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.http.probes.DEADLINE_SECONDS", 0.01)
    broker = Broker()
    broker.answering.clear()
    assert await readiness(broker, clock).obstacle() == NO_ANSWER


async def test_closing_cancels_a_check_in_flight(clock: Clock) -> None:
    broker = Broker()
    broker.answering.clear()
    ready = readiness(broker, clock)
    probe = asyncio.create_task(ready.obstacle())
    await asyncio.sleep(0)
    await ready.close()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await readiness(broker, clock).close()


async def test_a_worker_without_probes_runs_its_checks_until_they_pass(
    clock: Clock,
) -> None:
    broker, pauses = Broker("It has no queue."), list[float]()

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        pauses.append(seconds)
        broker.missing = None

    ready = readiness(broker, clock)
    await ready.settle(sleep=sleep)
    assert (broker.asked, pauses) == (2, [5.0])
    broker.down = True
    assert await ready.obstacle() is None
    assert broker.asked == 2
