"""Chart, service and oracle agree on every release."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.chart import charts, oracle, service
from tests.chart.charts import Values
from tests.chart.limits import AT_THE_LIMIT

RELEASES_AT_ONCE = 50

tenths = st.integers(1, 100).map(lambda number: number / 10)
percentages = st.integers(0, 100).map(lambda number: f"{number}%")
# How far a limit is from what is needed: at it, one short of it, or with room.
room = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 5, -1])


@st.composite
def releases(draw: st.DrawFn) -> dict[str, Any]:
    """Draw all values that take part in the sums, each limit at what is needed or close to it."""
    values = charts.merged(charts.defaults(), draw(_needs()))
    processes, client = values["processPool"], values["httpClient"]
    waits = [
        values["database"]["poolTimeoutSeconds"] + values["database"]["statementTimeoutMs"] / 1000,
        processes["waitSeconds"] + processes["timeoutSeconds"],
        client["totalTimeoutSeconds"],
    ]
    server = {"requestTimeoutSeconds": _tenth(max(waits) + draw(room) / 10)}
    rate = values["server"]["uploadMinBytesPerSecond"]
    upload = draw(tenths)
    server["maxBodyBytes"] = round(rate * upload)
    shutdown = int(server["requestTimeoutSeconds"] + upload) + 7 + draw(st.integers(-1, 3))
    server["shutdownSeconds"] = max(2, shutdown)
    leaving = values["server"]["preStopSeconds"] + server["shutdownSeconds"] + 7
    server["terminationGracePeriodSeconds"] = leaving + draw(room)
    limits = {
        "server": server,
        "database": {"maxConnections": len(oracle.connections(values)) + draw(room)},
        "resources": {"limits": {"memory": draw(_memory(values))}},
    }
    return charts.merged(values, limits)


def _tenth(number: float) -> float:
    return max(0.1, round(number, 1))


def _needs() -> st.SearchStrategy[dict[str, Any]]:
    few = st.integers(1, 5)
    return st.fixed_dictionaries(
        {
            "replicas": few,
            "autoscaling": st.fixed_dictionaries(
                {"enabled": st.booleans(), "minReplicas": few, "maxReplicas": st.integers(3, 12)}
            ),
            "strategy": st.fixed_dictionaries(
                {
                    "maxSurge": st.integers(0, 4) | percentages,
                    "maxUnavailable": st.sampled_from([0, 1, "0%", "25%"]),
                    "minReadySeconds": st.sampled_from([0, 1, 7, 10, 15, 30, 60]),
                }
            ),
            "server": st.fixed_dictionaries(
                {
                    "workers": few,
                    "workerMemoryMiB": st.integers(32, 300),
                    "uploadMinBytesPerSecond": st.sampled_from([500, 40_960, 1_000_000]),
                    "preStopSeconds": st.integers(0, 5),
                    "workerTimeoutSeconds": st.integers(2, 12),
                    "startupSeconds": tenths,
                    "proxyIdleSeconds": st.integers(66, 75),
                }
            ),
            "processPool": st.fixed_dictionaries(
                {
                    "size": few,
                    "memoryMiB": st.integers(16, 100),
                    "waitSeconds": tenths,
                    "timeoutSeconds": tenths,
                }
            ),
            "httpClient": st.fixed_dictionaries(
                {
                    "poolTimeoutSeconds": st.sampled_from([0.1, 0.5, 2]),
                    "connectTimeoutSeconds": st.sampled_from([0.2, 1, 3]),
                    "totalTimeoutSeconds": st.integers(25, 100).map(lambda number: number / 10),
                }
            ),
            "database": st.fixed_dictionaries(
                {
                    "poolSize": st.integers(1, 10),
                    "maxOverflow": st.integers(0, 5),
                    "poolTimeoutSeconds": tenths,
                    "statementTimeoutMs": st.integers(1, 90).map(lambda number: number * 100),
                    "reservedConnections": st.integers(0, 20),
                }
            ),
            "migrations": st.fixed_dictionaries({"enabled": st.booleans()}),
            "memoryVolumeMiB": st.integers(1, 64),
            "probes": st.fixed_dictionaries(
                {
                    "startup": st.fixed_dictionaries(
                        {"periodSeconds": few, "failureThreshold": st.integers(6, 30)}
                    ),
                    "liveness": st.fixed_dictionaries(
                        {"periodSeconds": few, "failureThreshold": st.integers(3, 12)}
                    ),
                    "readiness": st.fixed_dictionaries(
                        {"timeoutSeconds": st.sampled_from([3, 3, 3, 3, 5, 60, 2])}
                    ),
                }
            ),
        }
    )


@st.composite
def _memory(draw: st.DrawFn, values: Values) -> str:
    needed = int(sum(oracle.memory(values)))
    near = needed + draw(room)
    mebibytes = needed // 2**20 + draw(room)
    return draw(st.sampled_from([str(near), f"{mebibytes}Mi", f"{mebibytes * 1024}Ki", "2Gi"]))


def named(messages: list[str]) -> set[str]:
    """Return the limits that messages speak of; each begins with its name."""
    return {message.partition(": ")[0] for message in messages}


@pytest.fixture(scope="module")
def judged() -> list[tuple[charts.Rendered, dict[str, Any], set[str]]]:
    """What chart, service and oracle say of each release at a limit, and of the one beyond it."""
    drawn = [
        charts.merged(base, charts.nested(path, value))
        for _, base, path, *pair in AT_THE_LIMIT
        for value in pair
    ]
    whole = [charts.merged(charts.defaults(), values) for values in drawn]
    return list(
        zip(
            charts.render_all(drawn),
            service.judge(whole),
            map(oracle.broken, whole),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    "number", range(len(AT_THE_LIMIT)), ids=[f"{case[0]}: {case[2]}" for case in AT_THE_LIMIT]
)
def test_at_the_limit_a_release_is_accepted_and_one_further_is_refused(
    number: int, judged: list[tuple[charts.Rendered, dict[str, Any], set[str]]]
) -> None:
    name, _, path, *_ = AT_THE_LIMIT[number]
    (at, at_verdict, at_oracle), (beyond, beyond_verdict, beyond_oracle) = judged[
        2 * number : 2 * number + 2
    ]
    assert (at.refusal, at_verdict["accepted"], at_oracle) == ("", True, set())
    assert beyond_oracle == {name} == named(beyond_verdict["problems"])
    (message,) = beyond.messages
    arithmetic, _, change = message.partition("; ")
    assert re.fullmatch(rf"{re.escape(name)}: .+ = [\d.]+ > [\d.]+", arithmetic)
    assert change.startswith(("lower", "raise"))
    assert path in change


seen: dict[str, int] = {"accepted": 0, "refused": 0}


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(releases(), min_size=RELEASES_AT_ONCE, max_size=RELEASES_AT_ONCE))
def test_chart_service_and_oracle_agree_on_every_release(drawn: list[dict[str, Any]]) -> None:
    rendered = charts.render_all(drawn)
    judged = service.judge(drawn)
    for values, chart, verdict in zip(drawn, rendered, judged, strict=True):
        expected = oracle.broken(values)
        assert named(chart.messages) == expected, (values, chart.refusal)
        assert named(verdict["problems"]) == expected, (values, verdict)
        assert bool(chart.refusal) == bool(expected) == (not verdict["accepted"])
        seen["refused" if expected else "accepted"] += 1
    accepted = [chart for chart in rendered if not chart.refusal]
    loaded = service.load(chart.find("ConfigMap")["data"] for chart in accepted)
    assert [answer["error"] for answer in loaded] == [""] * len(accepted)


def test_hundreds_were_seen_and_neither_side_was_rare() -> None:
    assert sum(seen.values()) >= 200
    assert min(seen.values()) >= 20, seen
