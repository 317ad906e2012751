"""The contract of a release of the chart, from its values; `_capacity.tpl` does the same sums.

A key that is missing has the default of `Release`, or is not looked at.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slipway_kit.capacity import sums
from slipway_kit.capacity.sums import Limit, Release, ShutdownPlan, sum_limit, tightest
from slipway_kit.errors import SettingsError

# What the service gives its database to answer a readiness probe, rounded up.
_READINESS_SECONDS = 2
_MEBIBYTES = {"": 1 / 2**20, "k": 1e3 / 2**20, "M": 1e6 / 2**20, "G": 1e9 / 2**20}
_MEBIBYTES |= {"Ki": 1 / 2**10, "Mi": 1, "Gi": 2**10}

# Field of `Release` -> where the values say it.
_FIELDS = {
    "workers": "server.workers",
    "worker_memory_mib": "server.workerMemoryMiB",
    "shutdown_seconds": "server.shutdownSeconds",
    "request_timeout_seconds": "server.requestTimeoutSeconds",
    "max_body_bytes": "server.maxBodyBytes",
    "upload_min_bytes_per_second": "server.uploadMinBytesPerSecond",
    "pool_size": "database.poolSize",
    "max_overflow": "database.maxOverflow",
    "max_connections": "database.maxConnections",
    "reserved_connections": "database.reservedConnections",
    "pool_timeout_seconds": "database.poolTimeoutSeconds",
    "statement_timeout_ms": "database.statementTimeoutMs",
    "compute_wait_seconds": "processPool.waitSeconds",
    "compute_timeout_seconds": "processPool.timeoutSeconds",
    "outbound_pool_timeout_seconds": "httpClient.poolTimeoutSeconds",
    "outbound_connect_timeout_seconds": "httpClient.connectTimeoutSeconds",
    "outbound_timeout_seconds": "httpClient.totalTimeoutSeconds",
    "migration": "migrations.enabled",
    "memory_volumes_mib": "memoryVolumeMiB",
}

Values = Mapping[str, Any]


def judge(file: str) -> int:
    """Print the verdict on each line of `file`, `-` is standard input; 1 when one is broken.

    Each line is the values of a release as JSON. Raises `SettingsError` for what makes no sense.
    """
    accepted = True
    for number, line in enumerate(_lines(file), start=1):
        try:
            answer = verdict(limits(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            message = f"line {number} of the values is not usable: {error}."
            raise SettingsError(message) from None
        accepted = accepted and bool(answer["accepted"])
        print(json.dumps(answer))
    return 0 if accepted else 1


def _lines(file: str) -> Iterable[str]:
    if file == "-":
        text = sys.stdin.read()
    else:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            message = f"{file} cannot be read: {error.strerror}."
            raise SettingsError(message) from None
    return (line for line in text.splitlines() if line.strip())


def verdict(found: Iterable[Limit]) -> dict[str, Any]:
    """Say whether all limits hold, which do not and why, and which is the tightest."""
    known = list(found)
    broken = [f"{limit}; {limit.change}" for limit in known if not limit.holds]
    return {"accepted": not broken, "problems": broken, "binding": tightest(known).name}


def limits(values: Values) -> Iterator[Limit]:
    """Yield every limit that a release with these values is held to."""
    found = release(values)
    yield from sums.limits(found)
    if (grace := _at(values, "server.terminationGracePeriodSeconds")) is not None:
        yield sum_limit(
            "shutdown within the grace period, s",
            grace,
            "lower SHUTDOWN_SECONDS or raise terminationGracePeriodSeconds",
            (_at(values, "server.preStopSeconds", 0), "preStop"),
            (ShutdownPlan.within(found.shutdown_seconds).graceful_timeout, "graceful timeout"),
            (sums.POD_SECONDS, "for the pod"),
        )
    yield from _probes(values)
    if strategy := _at(values, "strategy"):
        steps = [pods_of(strategy.get(key, 0), 1) for key in ("maxSurge", "maxUnavailable")]
        yield Limit(
            name="a rollout takes a step, pods",
            need=1,
            have=sum(steps),
            arithmetic="one beyond the replicas or one missing",
            change="raise strategy.maxSurge or strategy.maxUnavailable",
        )
    keep_alive, proxy = (_at(values, f"server.{key}Seconds") for key in ("keepAlive", "proxyIdle"))
    if None not in (keep_alive, proxy):
        yield sum_limit(
            "idle connections outlast the proxy, s",
            keep_alive,
            "raise server.keepAliveSeconds or lower the proxy's idle time",
            (proxy, "at the proxy"),
            (1, ""),
        )
    if _at(values, "autoscaling.enabled"):
        yield sum_limit(
            "fewest pods within the most",
            _ceiling(values),
            "lower autoscaling.minReplicas or raise autoscaling.maxReplicas",
            (_at(values, "autoscaling.minReplicas", 1), "autoscaling.minReplicas"),
        )


def release(values: Values) -> Release:
    """Return what takes part in the sums; raise `ValueError` for what is no quantity."""
    given = {field: _at(values, path) for field, path in _FIELDS.items()}
    size, memory = _at(values, "processPool.size"), _at(values, "processPool.memoryMiB")
    if None not in (size, memory):
        given["pool_children_mib"] = size * memory
    limit = _at(values, "resources.limits.memory")
    if limit is not None:
        given["memory_limit_mib"] = mebibytes(str(limit))
    ceiling = _ceiling(values)
    surge = pods_of(_at(values, "strategy.maxSurge", 0), ceiling)
    leaving = _leaving(values, ceiling, surge)
    known = {field: value for field, value in given.items() if value is not None}
    return Release(replicas=ceiling, surge=surge, leaving=leaving, **known)


def pods_of(
    amount: float | str, replicas: int, *, whole: Callable[[float], int] = math.ceil
) -> int:
    """Turn a number or a percentage of the replicas into pods; `maxSurge` is rounded up."""
    if isinstance(amount, str) and amount.endswith("%"):
        return whole(replicas * int(amount[:-1]) / 100)
    return int(amount)


def _leaving(values: Values, replicas: int, surge: int) -> int:
    """Return how many pods the steps of a rollout send away within one grace period."""
    pause = _at(values, "strategy.minReadySeconds")
    grace = _at(values, "server.terminationGracePeriodSeconds")
    if None in (pause, grace):
        return 0
    missing = pods_of(_at(values, "strategy.maxUnavailable", 0), replicas, whole=math.floor)
    steps = math.ceil(grace / pause) if pause else replicas
    return min(replicas, max(1, surge + missing) * steps)


def mebibytes(quantity: float | str) -> float:
    """Read a Kubernetes quantity of memory, such as 512Mi or 1G; raise `ValueError` otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|k|M|G|)", str(quantity))
    if not match:
        message = f"{quantity!r} is no quantity of memory like 512Mi"
        raise ValueError(message)
    return float(match[1]) * _MEBIBYTES[match[2]]


def _ceiling(values: Values) -> int:
    scaling = _at(values, "autoscaling.enabled")
    return int(_at(values, "autoscaling.maxReplicas" if scaling else "replicas", 1))


def _probes(values: Values) -> Iterator[Limit]:
    start_up = _at(values, "server.startupSeconds")
    stall = _at(values, "server.workerTimeoutSeconds")
    if start_up is not None and (patience := _patience(values, "startup")):
        yield sum_limit(
            "start-up within its probe, s",
            patience,
            "raise probes.startup.failureThreshold or lower server.startupSeconds",
            (start_up, "start-up"),
            (1, ""),
        )
    if stall is not None and (patience := _patience(values, "liveness")):
        yield sum_limit(
            "a stalled worker is replaced before its pod, s",
            patience,
            "raise probes.liveness.failureThreshold or lower server.workerTimeoutSeconds",
            (stall, "worker timeout"),
            (1, ""),
        )
    if (answer := _at(values, "probes.readiness.timeoutSeconds")) is not None:
        yield sum_limit(
            "readiness answers within its probe, s",
            answer,
            "raise probes.readiness.timeoutSeconds",
            (_READINESS_SECONDS, "for the database"),
            (1, ""),
        )


def _patience(values: Values, probe: str) -> float | None:
    period = _at(values, f"probes.{probe}.periodSeconds")
    failures = _at(values, f"probes.{probe}.failureThreshold")
    return None if None in (period, failures) else period * failures


def _at(values: Values, path: str, default: Any = None) -> Any:
    found: Any = values
    for key in path.split("."):
        found = found.get(key)
        if found is None:
            return default
    return found
