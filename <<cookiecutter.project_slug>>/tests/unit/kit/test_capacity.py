import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.capacity import (
    Release,
    ShutdownPlan,
    binding,
    limits,
    mebibytes,
    pods_of,
    report,
    verdict,
)


@given(st.floats(min_value=2, max_value=3600))
def test_the_shutdown_is_divided_without_a_rest_and_each_sum_fits_the_next(seconds: float) -> None:
    plan = ShutdownPlan.within(seconds)
    assert plan.worker == pytest.approx(seconds)
    assert min(plan.drain, plan.requests, plan.close, plan.flush) > 0
    assert plan.worker + 2 <= plan.graceful_timeout + 1e-6
    assert plan.graceful_timeout + 5 <= plan.grace_period


def test_the_default_shutdown_fits_kubernetes_default_grace_period() -> None:
    assert ShutdownPlan.within(Release().shutdown_seconds).grace_period == 30


def connections_one_by_one(release: Release) -> int:
    """Count as an operator would: walk every pod, worker and slot of a pool."""
    count = 0
    for _pod in range(release.replicas + release.surge):
        for _worker in range(release.workers):
            for _slot in range(release.pool_size + release.max_overflow):
                count += 1
            count += 1  # readiness
    for _job in range(release.queue_workers):
        count += 1
    if release.migration:
        count += 1
    for _other in range(release.reserved_connections):
        count += 1
    return count


small = st.integers(min_value=0, max_value=6)
releases = st.builds(
    Release,
    replicas=st.integers(1, 8),
    surge=small,
    workers=st.integers(1, 4),
    pool_size=st.integers(1, 8),
    max_overflow=small,
    queue_workers=small,
    reserved_connections=small,
    migration=st.booleans(),
)


@given(releases)
def test_connections_equal_a_count_pod_by_pod(release: Release) -> None:
    (limit,) = [one for one in limits(release) if one.name == "database connections"]
    assert limit.need == connections_one_by_one(release)


@given(releases)
def test_a_release_at_the_limit_is_accepted_and_one_more_is_refused(release: Release) -> None:

    needed = connections_one_by_one(release)
    assert verdict(replace(release, max_connections=needed))["accepted"]
    refused = verdict(replace(release, max_connections=needed - 1))
    assert not refused["accepted"]
    assert str(needed) in refused["problems"][0]


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
    release = Release.from_values(json.loads(json.dumps(values)))
    assert (release.replicas, release.workers) == (replicas, workers)
    assert release.surge == pods_of(surge, replicas)
    assert (release.pool_size, release.max_overflow) == (4, 1)
    assert release.memory_limit_mib == 1024
    assert (release.compute_wait_seconds, release.compute_timeout_seconds) == (1, 3)
    assert release.outbound_pool_timeout_seconds == 1
    assert release.outbound_connect_timeout_seconds == 3
    assert release.outbound_timeout_seconds == 6


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


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (Release(max_connections=11), "database connections"),
        (Release(workers=4, memory_limit_mib=256), "memory, MiB"),
        (Release(pool_timeout_seconds=6), "one query within a request, s"),
        (Release(compute_timeout_seconds=9), "one computation within a request, s"),
        (Release(outbound_pool_timeout_seconds=6), "one connection within an outbound call, s"),
        (Release(outbound_timeout_seconds=11), "one outbound call within a request, s"),
        (Release(request_timeout_seconds=20), "one request within the shutdown, s"),
        (Release(grace_period_seconds=29), "shutdown within the grace period, s"),
        (Release(grace_period_seconds=30, pre_stop_seconds=1), "shutdown within the grace period"),
    ],
)
def test_each_broken_limit_is_named_with_its_arithmetic_and_what_to_change(
    release: Release, name: str
) -> None:
    (problem,) = verdict(release)["problems"]
    assert problem.startswith(name)
    assert ";" in problem
    assert " > " in problem


def test_the_report_names_the_limit_that_binds_first() -> None:
    release = Release(workers=2, max_connections=40, memory_limit_mib=4096)
    assert binding(release).name == "database connections"
    text = report(release)
    assert "binds first: database connections" in text
    assert "4.6 s drain" in text


def test_a_limit_of_nothing_is_broken() -> None:
    assert binding(Release(max_connections=0)).use == float("inf")
