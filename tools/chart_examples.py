"""What values of the chart may be, chosen so that no two are mistaken for each other."""

from typing import Any

from tests.chart.charts import Values

# As YAML reads them without quotes, these are no strings.
ODD, ODDER = "true", "1e3"
URL = "postgresql://user:password@host:5432/name"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
# What a value may be where a changed default would make no sense.
OTHERS: dict[str, list[Any]] = {
    "image.tag": [ODDER, "1.2.3+build", "v" * 70, 20261201],
    "image.digest": [DIGEST],
    "image.pullPolicy": ["Always"],
    "imagePullSecrets": [[{"name": ODD}]],
    "strategy.maxSurge": [0, 2, "26%", "0%", "100%"],
    "strategy.maxUnavailable": [1, "34%"],
    "podDisruptionBudget.maxUnavailable": [2, "30%"],
    "replicas": [1, 3],
    "autoscaling.minReplicas": [1, 3],
    "server.preStopSeconds": [1, 2],
    "server.terminationGracePeriodSeconds": [92, 3600],
    "database.url": [URL],
    "database.existingSecret": [ODD],
    "database.statementTimeoutMs": [2000000, 2500],
    "tracing.endpoint": [
        "http://collector",
        "https://collector",
        "https://collector:43/v1",
        "http://collector4318",
    ],
    "server.trustedProxies": [["10.0.0.0/8", "fd00::1"], ["*"]],
    "server.pathPrefix": ["/shop"],
    "config": [
        {"LOG_LEVEL": ODD},
        {"LOG_LEVEL": ODDER},
        {"HSTS_SECONDS": 31536000, "DOCS_ENABLED": True},
        {"FORWARDED_ALLOW_IPS": "*"},
    ],
    "resources.requests.cpu": ["1", "100m", 1.5],
    "resources.requests.ephemeral-storage": ["1Gi"],
    "resources.limits.ephemeral-storage": ["1Gi"],
    "resources.requests.memory": ["600Mi"],
    "resources.limits.memory": [
        "1000M",
        "0.4G",
        "1Gi",
        "600000Ki",
        "900000k",
        "500000000",
        900000000,
    ],
    "service.type": ["LoadBalancer"],
    "ingress.hosts": [
        [{"host": ODD}, {"host": "example.org", "path": "/games"}],
        [],
    ],
    "ingress.tls": [
        [{"secretName": "certificate", "hosts": ["example.org"]}]  # pragma: allowlist secret
    ],
    "httpRoute.parentRefs": [[{"name": "public", "namespace": "gateway"}], []],
    "httpRoute.path": ["/games"],
    "httpRoute.hostnames": [["example.org"]],
    "networkPolicy.ingressFrom": [[{"podSelector": {"matchLabels": {"a": "b"}}}]],
    "networkPolicy.scrapersFrom": [[], [{"podSelector": {}}]],
    "networkPolicy.databaseTo": [[{"ipBlock": {"cidr": "10.0.0.0/8"}}]],
    "networkPolicy.egress": [[{"ports": [{"port": 443}]}]],
    "tolerations": [[{"key": "spot", "operator": "Exists"}]],
    "affinity": [{"podAntiAffinity": {}}, {"nodeAffinity": {}, "podAntiAffinity": {}}],
    "extraEnv": [
        [{"name": "TZ", "value": "UTC"}, {"name": "LOG_LEVEL", "value": 2000000}],
        [{"name": "PORT", "value": "1"}],
        [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
    ],
    "extraEnvFrom": [[{"secretRef": {"name": "keys"}}]],
    "extraVolumes": [[{"name": "ca", "configMap": {"name": "ca"}}]],
    "extraVolumeMounts": [[{"name": "ca", "mountPath": "/ca"}]],
    "sidecars": [[{"name": "proxy", "image": "proxy", "restartPolicy": "Never"}]],
    "metrics.serviceMonitor.interval": ["15s"],
    "tests.paths": [["/health", "/api"], []],
}
# These decide what else counts, or whether an object is there at all.
ALONE = {
    "replicas",
    "fullnameOverride",
    "image.tag",
    "strategy.maxSurge",
    "strategy.maxUnavailable",
    "database.url",
    "openshift",
    "server.pathPrefix",
    "server.trustedProxies",
}
# Room for every number to grow, and every object there is.
ROOMY: Values = {
    "autoscaling": {"enabled": True, "maxReplicas": 9},
    "server": {"preStopSeconds": 1, "shutdownSeconds": 60, "terminationGracePeriodSeconds": 90},
    "database": {"maxConnections": 1000},
    "resources": {"limits": {"memory": "4Gi"}},
    "tracing": {"endpoint": "http://collector:4318"},
    "probes": {"startup": {"failureThreshold": 90}, "readiness": {"timeoutSeconds": 5}},
    "ingress": {"enabled": True, "hosts": [{"host": "games.example.org"}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "alerts": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}


# No two numbers alike that could be mistaken for each other.
UNEQUAL: Values = {
    "replicas": 3,
    "autoscaling": {"minReplicas": 2},
    "server": {"workerTimeoutSeconds": 13, "startupSeconds": 17.5},
    "processPool": {"waitSeconds": 1},
    "httpClient": {"connectTimeoutSeconds": 1.5},
    "database": {"poolTimeoutSeconds": 2.5, "statementTimeoutMs": 5500},
    "migrations": {"retries": 1},
    "resources": {"requests": {"memory": "500Mi", "ephemeral-storage": "70Mi"}},
    "probes": {"liveness": {"failureThreshold": 4}},
}
