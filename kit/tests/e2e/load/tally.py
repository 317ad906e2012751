"""What a strict client saw, as one JSON object."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kit.tests.e2e.load.wire import Failure

SLOW_SECONDS = 1.0
# Of each kind of failure, and of slow answers.
_SAMPLES = 20
_SLOWEST = 1000
_CHANCE = 0.01


def may_be_chance(failed: int, requests: int, *, share: float) -> bool:
    """Tell whether so many failures are no sign that more than `share` of all requests fail.

    False where so many or more would come by chance in fewer than one of a hundred such counts.
    """
    expected = requests * share
    fewer = sum(expected**count / math.factorial(count) for count in range(failed))
    return 1 - math.exp(-expected) * fewer >= _CHANCE


@dataclass
class Failures:
    """One kind of failure: how many, when, and some of them."""

    count: int = 0
    first: float = 0
    last: float = 0
    # When the last of them was asked, and what it was.
    last_asked: float = 0
    latest: dict[str, Any] = field(default_factory=dict)
    # When each was, to the hundredth of a second.
    times: list[float] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)


class Table:
    """Requests of one group of connections; times are seconds since 1970."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.by_second: Counter[int] = Counter()
        self.failures: dict[str, Failures] = {}
        self.seconds: list[float] = []
        self.slow: list[dict[str, Any]] = []

    def answered(self, kind: str, what: str, *, seconds: float, late: float = 0) -> None:
        """Count a request that got what it asked for; `late` seconds went by before it was sent."""
        self.requests[kind] += 1
        self._time(kind, what, seconds, late)

    def failed(self, kind: str, what: str, failure: Failure, *, seconds: float = 0) -> None:
        """Count one that did not."""
        self.requests[kind] += 1
        now = time.time()
        found = self.failures.setdefault(failure.kind, Failures(first=now))
        found.count, found.last = found.count + 1, now
        found.times.append(round(now, 2))
        told = {"at": now, "what": what, "detail": failure.detail, "seconds": round(seconds, 3)}
        if len(found.samples) < _SAMPLES:
            found.samples.append(told)
        if now - seconds >= found.last_asked:
            found.last_asked, found.latest = now - seconds, told
        self._time(kind, what, seconds, 0)

    def _time(self, kind: str, what: str, seconds: float, late: float) -> None:
        self.by_second[int(time.time())] += 1
        self.seconds.append(seconds)
        if seconds > SLOW_SECONDS:
            told = {"at": time.time(), "kind": kind, "what": what}
            self.slow.append({**told, "seconds": round(seconds, 3), "late": round(late, 3)})

    def result(self) -> dict[str, Any]:
        """Sum it up; latencies are milliseconds from the moment a request was due."""
        return {
            "requests": sum(self.requests.values()),
            "by_kind": dict(self.requests),
            "by_second": dict(self.by_second),
            "failed": sum(failure.count for failure in self.failures.values()),
            "failures": {kind: vars(failure) for kind, failure in self.failures.items()},
            "latency_ms": percentiles(self.seconds),
            "slow": len(self.slow),
            "slowest": sorted(self.slow, key=lambda one: one["at"])[:_SLOWEST],
        }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return some of them in milliseconds; the rank is rounded up."""
    ordered = sorted(seconds) or [0.0]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    ranks = {name: math.ceil(share * len(ordered)) - 1 for name, share in shares.items()}
    return {name: round(1000 * ordered[max(rank, 0)], 1) for name, rank in ranks.items()}
