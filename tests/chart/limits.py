"""Releases that are just accepted, and by how little."""

from typing import Any

from tests.chart.charts import Values

# The limit, values, and one of them that makes the release be accepted or refused.
AT_THE_LIMIT: list[tuple[str, Values, str, Any, Any]] = [
    ("database connections", {}, "database.maxConnections", 71, 70),
    ("database connections", {"replicas": 4}, "strategy.maxSurge", "25%", "26%"),
    ("database connections", {"replicas": 4}, "strategy.minReadySeconds", 25, 24),
    (
        "database connections",
        {"autoscaling": {"enabled": True}, "replicas": 99},
        "autoscaling.maxReplicas",
        *(4, 5),
    ),
    ("a rollout takes a step, pods", {}, "strategy.maxSurge", "1%", "0%"),
    ("memory, MiB", {}, "resources.limits.memory", "448Mi", "447Mi"),
    ("memory, MiB", {}, "memoryVolumeMiB", 96, 97),
    ("one query within a request, s", {}, "database.statementTimeoutMs", 8000, 8001),
    ("one computation within a request, s", {}, "processPool.waitSeconds", 5, 5.1),
    ("one connection within an outbound call, s", {}, "httpClient.poolTimeoutSeconds", 5, 5.1),
    ("one outbound call within a request, s", {}, "httpClient.totalTimeoutSeconds", 10, 10.1),
    ("one request within the shutdown, s", {}, "server.requestTimeoutSeconds", 10.4, 10.5),
    ("one request within the shutdown, s", {}, "server.maxBodyBytes", 1064960, 1064961),
    ("one request within the shutdown, s", {}, "server.uploadMinBytesPerSecond", 40330, 40329),
    ("shutdown within the grace period, s", {}, "server.terminationGracePeriodSeconds", 50, 49),
    ("shutdown within the grace period, s", {}, "server.preStopSeconds", 0, 1),
    ("idle connections outlast the proxy, s", {}, "server.proxyIdleSeconds", 74, 75),
    ("start-up within its probe, s", {}, "probes.startup.failureThreshold", 31, 30),
    (
        "a stalled worker is replaced before its pod, s",
        {},
        "server.workerTimeoutSeconds",
        *(29, 30),
    ),
    ("readiness answers within its probe, s", {}, "probes.readiness.timeoutSeconds", 3, 2),
    (
        "fewest pods within the most",
        {"autoscaling": {"enabled": True}},
        "autoscaling.minReplicas",
        *(4, 5),
    ),
]
