import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_kit.capacity.sums import Release
from slipway_kit.dev import chart_values as chart
from slipway_kit.dev.chart_values import mebibytes, pods_of, verdict


@given(
    replicas=st.integers(1, 20),
    workers=st.integers(1, 4),
    scaling=st.booleans(),
    surge=st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda n: f"{n}%")),
)
def test_chart_values_say_the_same_as_a_release(
    replicas: int, workers: int, scaling: bool, surge: int | str
) -> None:
    values: dict[str, Any] = {
        "replicas": 99 if scaling else replicas,
        "autoscaling": {"enabled": scaling, "maxReplicas": replicas if scaling else 99},
        "strategy": {"maxSurge": surge},
        "server": {"workers": workers},
        "processPool": {"waitSeconds": 1, "timeoutSeconds": 3},
        "database": {"poolSize": 4, "maxOverflow": 1, "maxConnections": 100},
        "resources": {"limits": {"memory": "1Gi"}},
        "httpClient": {
            "poolTimeoutSeconds": 1,
            "connectTimeoutSeconds": 3,
            "totalTimeoutSeconds": 6,
        },
    }
    release = chart.release(json.loads(json.dumps(values)))
    assert (release.replicas, release.workers) == (replicas, workers)
    assert release.surge == pods_of(surge, replicas)
    assert (release.pool_size, release.max_overflow) == (4, 1)
    assert release.memory_limit_mib == 1024
    assert (release.compute_wait_seconds, release.compute_timeout_seconds) == (1, 3)
    assert release.outbound_pool_timeout_seconds == 1
    assert release.outbound_connect_timeout_seconds == 3
    assert release.outbound_timeout_seconds == 6


@pytest.mark.parametrize(
    ("strategy", "grace", "expected"),
    [
        ({"minReadySeconds": 15, "maxSurge": 1}, 30, 2),
        ({"minReadySeconds": 15, "maxSurge": 1}, 31, 3),
        ({"minReadySeconds": 15, "maxSurge": "25%", "maxUnavailable": 1}, 30, 8),
        ({"minReadySeconds": 15, "maxSurge": 0, "maxUnavailable": "19%"}, 30, 2),
        ({"minReadySeconds": 1, "maxSurge": 1}, 30, 10),
        ({"minReadySeconds": 0, "maxSurge": 1}, 30, 10),
        ({"maxSurge": 1}, 30, 0),
    ],
)
def test_pods_that_leave_within_a_grace_period_are_counted(
    strategy: dict[str, Any], grace: int, expected: int
) -> None:
    server = {"terminationGracePeriodSeconds": grace}
    release = chart.release({"replicas": 10, "strategy": strategy, "server": server})
    assert release.leaving == expected


def test_a_percentage_of_surge_is_rounded_up() -> None:
    assert [pods_of("25%", n) for n in (1, 4, 5)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("512Mi", 512), ("1Gi", 1024), ("1.5Gi", 1536), (1048576, 1), ("1048576k", 1000)],
)
def test_quantities_of_memory(quantity: str | int, expected: float) -> None:
    assert mebibytes(quantity) == pytest.approx(expected)


@pytest.mark.parametrize("quantity", ["512MB", "much", "-1Mi", ""])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="no quantity of memory"):
        mebibytes(quantity)


def test_values_that_say_nothing_make_the_default_release() -> None:
    assert chart.release({}) == Release()
    assert [limit.name for limit in chart.limits({}) if "probe" in limit.name] == []


def test_memory_counts_every_process_of_a_pod() -> None:
    release = chart.release(
        {
            "server": {"workerMemoryMiB": 100},
            "processPool": {"size": 3, "memoryMiB": 20},
            "memoryVolumeMiB": 7,
        }
    )
    assert (release.worker_memory_mib, release.pool_children_mib) == (100, 60)
    assert release.memory_volumes_mib == 7


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (
            {"server": {"keepAliveSeconds": 60, "proxyIdleSeconds": 60}},
            "idle connections outlast the proxy, s: 60 at the proxy + 1 = 61 > 60",
        ),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}},
            "fewest pods within the most: 4 autoscaling.minReplicas = 4 > 3",
        ),
        (
            {
                "server": {"startupSeconds": 30},
                "probes": {"startup": {"periodSeconds": 2, "failureThreshold": 15}},
            },
            "start-up within its probe, s: 30 start-up + 1 = 31 > 30",
        ),
        (
            {
                "server": {"workerTimeoutSeconds": 20},
                "probes": {"liveness": {"periodSeconds": 10, "failureThreshold": 2}},
            },
            "a stalled worker is replaced before its pod, s: 20 worker timeout + 1 = 21 > 20",
        ),
        (
            {"strategy": {"maxSurge": "0%", "maxUnavailable": 0}},
            "a rollout takes a step, pods: one beyond the replicas or one missing = 1 > 0",
        ),
        (
            {"probes": {"readiness": {"timeoutSeconds": 2}}},
            "readiness answers within its probe, s: 2 for the database + 1 = 3 > 2",
        ),
        (
            {"server": {"terminationGracePeriodSeconds": 50, "preStopSeconds": 1}},
            "shutdown within the grace period, s: 1 preStop + 45 graceful timeout + 5 for the pod",
        ),
        (
            {"server": {"maxBodyBytes": 2**21, "uploadMinBytesPerSecond": 2**16}},
            "one request within the shutdown, s: 10 request timeout + 32 upload = 42 > 36",
        ),
    ],
)
def test_what_only_a_chart_decides_is_held_to_its_limit(values: dict[str, Any], name: str) -> None:
    (problem,) = verdict(chart.limits(values))["problems"]
    assert problem.startswith(name)


def test_an_autoscaler_that_is_off_is_not_looked_at() -> None:
    values = {"autoscaling": {"enabled": False, "minReplicas": 4, "maxReplicas": 3}}
    assert verdict(chart.limits(values))["accepted"]
