"""The sums of capacity: connections, memory, timeouts and shutdown.

`ShutdownPlan` divides the shutdown time. `Release` holds the inputs, from the running configuration
or from a chart's values; `limits` yields the sums.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

# gunicorn checks its workers once a second, and takes another second to reap them.
REAP_SECONDS = 2
# For the kubelet and the master, beside the workers.
POD_SECONDS = 5
# A worker's own: ports, event loop, metric files (three each), log, what the master has open.
OWN_DESCRIPTORS = 60
# Connections of clients that a worker should be able to hold.
CLIENTS = 100

_EPSILON = 1e-9  # the error of sums of fractions


@dataclass(frozen=True, slots=True)
class ShutdownPlan:
    """The phases of a worker's shutdown, in seconds."""

    drain: float
    requests: float
    close: float
    flush: float

    @classmethod
    def within(cls, seconds: float) -> Self:
        """Divide `seconds`: a fifth each to drain and to close, a tenth to flush, at most 5, 5, 2.

        The rest is for requests in flight.
        """
        drain, close, flush = min(seconds / 5, 5), min(seconds / 5, 5), min(seconds / 10, 2)
        return cls(drain, seconds - drain - close - flush, close, flush)

    @property
    def worker(self) -> float:
        """The time from SIGTERM to the worker's exit."""
        return self.drain + self.requests + self.close + self.flush

    @property
    def graceful_timeout(self) -> int:
        """The time after which gunicorn kills a worker."""
        return math.ceil(self.worker + REAP_SECONDS - _EPSILON)

    @property
    def grace_period(self) -> int:
        """The least `terminationGracePeriodSeconds` of a pod without a preStop pause."""
        return self.graceful_timeout + POD_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The inputs of the sums; memory in MiB."""

    replicas: int = 1
    surge: int = 0
    leaving: int = 0
    workers: int = 1
    pool_size: int = 10
    max_overflow: int = 0
    max_connections: int = 100
    reserved_connections: int = 10
    migration: bool = True
    memory_limit_mib: float | None = None
    worker_memory_mib: float = 128
    pool_children_mib: float = 48
    # Measured: master and exporter together hold a share of 56 MiB.
    master_memory_mib: float = 64
    memory_volumes_mib: float = 0
    shutdown_seconds: float = 43
    pool_timeout_seconds: float = 2
    statement_timeout_ms: float = 5000
    compute_wait_seconds: float = 2
    compute_timeout_seconds: float = 5
    request_timeout_seconds: float = 10
    max_body_bytes: float = 1024 * 1024
    upload_min_bytes_per_second: float = 40 * 1024
    outbound_pool_timeout_seconds: float = 2
    outbound_connect_timeout_seconds: float = 2
    outbound_timeout_seconds: float = 7
    outbound_connections: int = 100
    pool_processes: int = 1
    descriptors: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One inequality: `need` must not exceed `have`."""

    name: str
    need: float
    have: float
    arithmetic: str
    change: str

    @property
    def holds(self) -> bool:
        """Whether `need` fits into `have`."""
        return self.need <= self.have + _EPSILON

    @property
    def use(self) -> float:
        """The share of the limit that is used; above 1 it is exceeded."""
        return self.need / self.have if self.have > 0 else math.inf

    def __str__(self) -> str:
        relation = "<=" if self.holds else ">"
        return f"{self.name}: {self.arithmetic} = {self.need:g} {relation} {self.have:g}"


def limits(release: Release) -> Iterator[Limit]:
    """Yield every limit of a release."""
    pods = release.replicas + release.surge + release.leaving
    # One more for readiness, which connects outside the pool.
    per_worker = release.pool_size + release.max_overflow + 1
    factors = (
        f"in ({release.replicas} replicas + {release.surge} surge + {release.leaving} leaving)"
        f" x {release.workers} workers"
        f" x ({release.pool_size} pool + {release.max_overflow} overflow + 1 readiness)"
    )
    yield sum_limit(
        "database connections",
        release.max_connections,
        "lower the pool, the workers or the replicas, or raise the database's connections",
        (pods * release.workers * per_worker, factors),
        (int(release.migration), "migration"),
        (release.reserved_connections, "reserved"),
    )
    if release.memory_limit_mib is not None:
        yield sum_limit(
            "memory, MiB",
            release.memory_limit_mib,
            "lower the workers or raise the memory limit",
            (release.workers * release.worker_memory_mib, f"in {release.workers} workers"),
            (release.workers * release.pool_children_mib, "in their pool children"),
            (release.master_memory_mib, "in master and exporter"),
            (release.memory_volumes_mib, "in memory volumes"),
        )
    yield from descriptor_limits(release)
    yield from time_limits(release)


def descriptor_limits(release: Release) -> Iterator[Limit]:
    """Yield the limit of a worker's file descriptors, if there is one."""
    if release.descriptors is None:
        return
    yield sum_limit(
        "file descriptors of a worker",
        release.descriptors,
        "raise ulimit -n, or lower the pool or HTTP_CLIENT_MAX_CONNECTIONS",
        (OWN_DESCRIPTORS, "of its own"),
        (release.pool_size + release.max_overflow + 1, "database"),
        (release.outbound_connections, "outbound"),
        (2 * release.pool_processes, "pool processes"),
        (CLIENTS, "clients"),
    )


def time_limits(release: Release) -> Iterator[Limit]:
    """Yield the limits of time: each timeout fits into the one around it."""
    plan = ShutdownPlan.within(release.shutdown_seconds)
    request, outbound = release.request_timeout_seconds, release.outbound_timeout_seconds
    yield sum_limit(
        "one query within a request, s",
        request,
        "lower DATABASE_POOL_TIMEOUT_SECONDS or DATABASE_STATEMENT_TIMEOUT_MS,"
        " or raise REQUEST_TIMEOUT_SECONDS",
        (release.pool_timeout_seconds, "pool timeout"),
        (release.statement_timeout_ms / 1000, "statement timeout"),
    )
    yield sum_limit(
        "one computation within a request, s",
        request,
        "lower PROCESS_POOL_WAIT_SECONDS or PROCESS_POOL_TIMEOUT_SECONDS,"
        " or raise REQUEST_TIMEOUT_SECONDS",
        (release.compute_wait_seconds, "wait"),
        (release.compute_timeout_seconds, "timeout"),
    )
    yield sum_limit(
        "one connection within an outbound call, s",
        outbound,
        "lower HTTP_CLIENT_POOL_TIMEOUT_SECONDS or HTTP_CLIENT_CONNECT_TIMEOUT_SECONDS,"
        " or raise HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS",
        (release.outbound_pool_timeout_seconds, "pool timeout"),
        (release.outbound_connect_timeout_seconds, "connect timeout"),
    )
    yield sum_limit(
        "one outbound call within a request, s",
        request,
        "lower HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS or raise REQUEST_TIMEOUT_SECONDS",
        (outbound, "outbound timeout"),
    )
    yield sum_limit(
        "one request within the shutdown, s",
        plan.drain + plan.requests,
        "lower REQUEST_TIMEOUT_SECONDS or MAX_BODY_BYTES,"
        " or raise UPLOAD_MIN_BYTES_PER_SECOND or SHUTDOWN_SECONDS",
        (request, "request timeout"),
        (release.max_body_bytes / release.upload_min_bytes_per_second, "upload"),
    )


def sum_limit(name: str, have: float, change: str, *terms: tuple[float, str]) -> Limit:
    """Return the limit of a sum; each term is an amount and its name."""
    arithmetic = " + ".join(f"{amount:g} {what}".rstrip() for amount, what in terms)
    return Limit(name, sum(amount for amount, _ in terms), have, arithmetic, change)


def tightest(limits: Iterable[Limit]) -> Limit:
    """Return the limit with the largest share used."""
    return max(limits, key=lambda limit: limit.use)


def report(release: Release) -> str:
    """Return the sums of a release as a table, and the phases of the shutdown."""
    plan = ShutdownPlan.within(release.shutdown_seconds)
    found = list(limits(release))
    first = tightest(found)
    rows = [
        f"{limit.name:<38} {limit.need:>8g} of {limit.have:<8g} {limit.use:>6.0%}"
        f"  {limit.arithmetic}{'' if limit.holds else f' - BROKEN: {limit.change}'}"
        for limit in found
    ]
    shutdown = (
        f"shutdown: {plan.drain:g} s drain + {plan.requests:g} s requests"
        f" + {plan.close:g} s close + {plan.flush:g} s flush = {plan.worker:g} s;"
        f" gunicorn waits {plan.graceful_timeout} s, the pod needs {plan.grace_period} s"
    )
    return "\n".join([*rows, f"tightest: {first.name}, {first.use:.0%} used", shutdown])
