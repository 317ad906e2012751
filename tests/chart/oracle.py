"""What a release needs, found by listing its pods, processes and moments one by one.

It shares nothing with the chart's sums nor with the service's: no formula, no code, no rounding.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from tests.chart.charts import Values

UNITS = {
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
}


def broken(values: Values) -> set[str]:
    """Return the names of the limits that a release with all its `values` breaks."""
    return {name for name, holds in _looks(values) if not holds}


def _looks(values: Values) -> Iterator[tuple[str, bool]]:
    server, database, client = values["server"], values["database"], values["httpClient"]
    processes, scaling = values["processPool"], values["autoscaling"]
    request = _exact(server["requestTimeoutSeconds"])
    yield "database connections", len(connections(values)) <= database["maxConnections"]
    yield "memory, MiB", sum(memory(values)) <= _bytes(values["resources"]["limits"]["memory"])
    yield (
        "one query within a request, s",
        _passed(database["poolTimeoutSeconds"], _exact(database["statementTimeoutMs"]) / 1000)
        <= request,
    )
    yield (
        "one computation within a request, s",
        _passed(processes["waitSeconds"], processes["timeoutSeconds"]) <= request,
    )
    yield (
        "one connection within an outbound call, s",
        _passed(client["poolTimeoutSeconds"], client["connectTimeoutSeconds"])
        <= _exact(client["totalTimeoutSeconds"]),
    )
    yield "one outbound call within a request, s", _passed(client["totalTimeoutSeconds"]) <= request
    upload = _exact(server["maxBodyBytes"]) / _exact(server["uploadMinBytesPerSecond"])
    yield (
        "one request within the shutdown, s",
        _passed(request, upload) <= _time_for_requests(server),
    )
    yield "shutdown within the grace period, s", _leaving(server) <= _grace(server)
    yield (
        "idle connections outlast the proxy, s",
        server["keepAliveSeconds"] > server["proxyIdleSeconds"],
    )
    yield from _probes(values)
    idle = {0, "0%"}
    strategy = values["strategy"]
    yield (
        "a rollout takes a step, pods",
        strategy["maxSurge"] not in idle or strategy["maxUnavailable"] not in idle,
    )
    if scaling["enabled"]:
        fewest = [f"pod {number}" for number in range(scaling["minReplicas"])]
        most = [f"pod {number}" for number in range(scaling["maxReplicas"])]
        yield "fewest pods within the most", set(fewest) <= set(most)


def pods(values: Values) -> list[str]:
    """Name every pod that lives at the height of a rollout."""
    scaling = values["autoscaling"]
    replicas = scaling["maxReplicas"] if scaling["enabled"] else values["replicas"]
    found = [f"pod {number}" for number in range(replicas)]
    found += [f"surge pod {number}" for number in range(_surge(values, replicas))]
    return found + [f"leaving pod {number}" for number in range(_dying(values, replicas))]


def _surge(values: Values, replicas: int) -> int:
    given = values["strategy"]["maxSurge"]
    return next(number for number in count() if number >= _share(given, replicas))


def _share(given: int | str, replicas: int) -> Decimal:
    if isinstance(given, int):
        return Decimal(given)
    return Decimal(given.strip("%")) / 100 * replicas


def _dying(values: Values, replicas: int) -> int:
    """Play a rollout step by step and see how many old pods are dying at its worst moment."""
    strategy = values["strategy"]
    at_once = _surge(values, replicas)
    at_once += max(n for n in range(1001) if n <= _share(strategy["maxUnavailable"], replicas))
    now, told, worst = 0, list[int](), 0
    while len(told) < replicas:
        told += [now] * min(at_once or 1, replicas - len(told))
        dying = [then for then in told if now < then + _grace(values["server"])]
        worst = max(worst, len(dying))
        now += strategy["minReadySeconds"]
    return worst


def connections(values: Values) -> list[str]:
    """Name every connection that the database may see."""
    database = values["database"]
    found = []
    for pod in pods(values):
        for worker in range(values["server"]["workers"]):
            whose = f"{pod}, worker {worker}"
            found += [f"{whose}, pool {number}" for number in range(database["poolSize"])]
            found += [f"{whose}, overflow {number}" for number in range(database["maxOverflow"])]
            found.append(f"{whose}, readiness")
    if values["migrations"]["enabled"]:
        found.append("migration")
    found += [f"somebody else {number}" for number in range(database["reservedConnections"])]
    assert len(set(found)) == len(found)
    return found


def memory(values: Values) -> Iterator[Decimal]:
    """Yield the bytes of every process and volume of a pod."""
    mebibyte = UNITS["Mi"]
    yield 64 * mebibyte  # gunicorn's master and the exporter
    yield values["memoryVolumeMiB"] * mebibyte
    for _worker in range(values["server"]["workers"]):
        yield values["server"]["workerMemoryMiB"] * mebibyte
        for _process in range(values["processPool"]["size"]):
            yield values["processPool"]["memoryMiB"] * mebibyte


def _probes(values: Values) -> Iterator[tuple[str, bool]]:
    server, probes = values["server"], values["probes"]
    yield (
        "start-up within its probe, s",
        _gives_up(probes["startup"]) >= _passed(server["startupSeconds"], 1),
    )
    yield (
        "a stalled worker is replaced before its pod, s",
        _gives_up(probes["liveness"]) >= _passed(server["workerTimeoutSeconds"], 1),
    )
    yield "readiness answers within its probe, s", probes["readiness"]["timeoutSeconds"] >= 3


def _gives_up(probe: Values) -> Decimal:
    """Return when a probe that nobody answers has failed too often."""
    now = Decimal(0)
    for _failure in range(probe["failureThreshold"]):
        now += probe["periodSeconds"]
    return now


def _time_for_requests(server: Values) -> Decimal:
    """Return how long after SIGTERM a request may go on: until clients close and spans are sent."""
    left = _exact(server["shutdownSeconds"])
    left -= min(_exact(server["shutdownSeconds"]) / 5, Decimal(5))
    return left - min(_exact(server["shutdownSeconds"]) / 10, Decimal(2))


def _leaving(server: Values) -> Decimal:
    return _passed(server["preStopSeconds"], server["shutdownSeconds"], 2, 5)


def _grace(server: Values) -> Decimal:
    return _exact(server["terminationGracePeriodSeconds"])


def _passed(*seconds: float | Decimal) -> Decimal:
    now = Decimal(0)
    for each in seconds:
        now += _exact(each)
    return now


def _exact(number: float | Decimal) -> Decimal:
    return Decimal(str(number))


def _bytes(quantity: str) -> Decimal:
    digits = quantity.rstrip("KMGki")
    return Decimal(digits) * UNITS.get(quantity.removeprefix(digits), Decimal(1))
