from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_kit.capacity.sums import Release, ShutdownPlan, limits, report, tightest
from slipway_kit.dev.chart_values import verdict


@given(st.floats(min_value=2, max_value=3600))
def test_the_shutdown_is_divided_without_a_rest_and_each_sum_fits_the_next(seconds: float) -> None:
    plan = ShutdownPlan.within(seconds)
    assert plan.worker == pytest.approx(seconds)
    assert min(plan.drain, plan.requests, plan.close, plan.flush) > 0
    assert plan.worker + 2 <= plan.graceful_timeout + 1e-6
    assert plan.graceful_timeout + 5 <= plan.grace_period


@pytest.mark.parametrize("seconds", [4, 13, 16, 23, 600])
def test_a_shutdown_of_whole_seconds_needs_two_more_to_reap_and_five_for_the_pod(
    seconds: int,
) -> None:
    plan = ShutdownPlan.within(seconds)
    assert (plan.graceful_timeout, plan.grace_period) == (seconds + 2, seconds + 7)


def test_sums_of_fractions_are_not_refused_for_their_last_digit() -> None:
    release = Release(
        pool_timeout_seconds=0.1, statement_timeout_ms=200, request_timeout_seconds=0.3
    )
    (query,) = [one for one in limits(release) if one.name == "one query within a request, s"]
    assert query.need > query.have
    assert query.holds


def test_the_longest_upload_at_the_least_rate_fits_the_default_shutdown() -> None:
    release = Release()
    assert ShutdownPlan.within(release.shutdown_seconds).grace_period == 50
    (request,) = [one for one in limits(release) if "the shutdown" in one.name]
    assert request.arithmetic == "10 request timeout + 25.6 upload"
    assert request.need == pytest.approx(35.6)
    assert request.holds


def connections_one_by_one(release: Release) -> int:
    """Count as an operator would: walk every pod, worker and slot of a pool."""
    count = 0
    for _pod in range(release.replicas + release.surge + release.leaving):
        for _worker in range(release.workers):
            for _slot in range(release.pool_size + release.max_overflow):
                count += 1
            count += 1  # readiness
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
    leaving=small,
    workers=st.integers(1, 4),
    pool_size=st.integers(1, 8),
    max_overflow=small,
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
    assert verdict(limits(replace(release, max_connections=needed)))["accepted"]
    refused = verdict(limits(replace(release, max_connections=needed - 1)))
    assert not refused["accepted"]
    assert str(needed) in refused["problems"][0]


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (Release(max_connections=11), "database connections"),
        (Release(workers=4, memory_limit_mib=256), "memory, MiB"),
        (Release(pool_timeout_seconds=6), "one query within a request, s"),
        (Release(compute_timeout_seconds=9), "one computation within a request, s"),
        (Release(outbound_pool_timeout_seconds=6), "one connection within an outbound call, s"),
        (Release(outbound_timeout_seconds=11), "one outbound call within a request, s"),
        (Release(descriptors=256), "file descriptors of a worker"),
        (Release(request_timeout_seconds=20), "one request within the shutdown, s"),
        (Release(max_body_bytes=2**21), "one request within the shutdown, s"),
        (Release(upload_min_bytes_per_second=40000), "one request within the shutdown, s"),
    ],
)
def test_each_broken_limit_is_named_with_its_arithmetic_and_what_to_change(
    release: Release, name: str
) -> None:
    (problem,) = verdict(limits(release))["problems"]
    assert problem.startswith(name)
    assert ";" in problem
    assert " > " in problem


def test_the_report_names_the_tightest_limit() -> None:
    release = Release(workers=2, max_connections=33, memory_limit_mib=4096)
    assert tightest(limits(release)).name == "database connections"
    text = report(release)
    assert "tightest: database connections" in text
    assert "5 s drain" in text


def test_a_limit_of_nothing_is_broken() -> None:
    assert tightest(limits(Release(max_connections=0))).use == float("inf")
