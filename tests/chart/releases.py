"""Releases that every check of rendered objects looks at: each object alone, each choice, all."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from tests.chart import charts
from tests.chart.charts import NAME, SERVICE, Object, Rendered, Values, nested

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Outside = Mapping[tuple[str, str], set[str]]

DATABASE: Outside = {("Secret", f"{NAME}-database"): {"url"}}


@dataclass(frozen=True)
class Example:
    """Values, and what a release with them expects to be there."""

    values: Values = field(default_factory=dict)
    files: Sequence[Path] = ()
    outside: Outside = field(default_factory=lambda: DATABASE)

    def render(
        self,
        kubernetes: str = charts.KUBERNETES,
        *,
        chart: Path = charts.CHART,
        namespace: str = charts.NAMESPACE,
    ) -> Rendered:
        """Return what helm makes of it."""
        return charts.render(
            self.values, chart=chart, files=self.files, kubernetes=kubernetes, namespace=namespace
        )


def _on(*paths: str) -> Example:
    values: Values = {}
    for path in paths:
        values = charts.merged(values, nested(path, value=True))
    return Example(values)


def _off(path: str) -> Example:
    return Example(nested(path, value=False))


EXTRAS: Values = {
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"example.org/team": "games"},
    "podLabels": {"example.org/team": "games"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "games", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "games"}},
                }
            ]
        }
    },
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "bank"}}},
        {"name": "REGION", "value": "eu"},
    ],
    "extraEnvFrom": [{"configMapRef": {"name": "shared"}}, {"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "rules", "configMap": {"name": "rules"}}],
    "extraVolumeMounts": [{"name": "rules", "mountPath": "/rules", "readOnly": True}],
}

EXAMPLES: Mapping[str, Example] = {
    "defaults": Example(),
    "everything": Example(charts.EVERYTHING, outside={("Gateway", "public"): set()}),
    **{
        name: Example(files=(SERVICE / f"chart/values-{name}.yaml",))
        for name in charts.ENVIRONMENTS
    },
    "autoscaling": _on("autoscaling.enabled"),
    "service-monitor": _on("metrics.serviceMonitor.enabled"),
    "alerts": _on("metrics.alerts.enabled"),
    "dashboard": _on("metrics.dashboard.enabled"),
    "openshift": _on("openshift"),
    "pgbouncer": Example(
        {"database": {"pgbouncer": True, "migrationUrlKey": "direct"}},
        outside={("Secret", f"{NAME}-database"): {"url", "direct"}},
    ),
    "prefix": Example(
        {
            "server": {"pathPrefix": "/shop", "trustedProxies": ["10.0.0.0/8", "fd00::/8"]},
            "ingress": {"enabled": True, "hosts": [{"host": "games.example.org"}]},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        },
        outside={**DATABASE, ("Gateway", "public"): set()},
    ),
    "no-migrations": _off("migrations.enabled"),
    "no-network-policy": _off("networkPolicy.enabled"),
    "no-budget": _off("podDisruptionBudget.enabled"),
    "no-tests": _off("tests.enabled"),
    "one-pod": Example({"replicas": 1}),
    "ingress": Example(
        {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "annotations": {"example.org/timeout": "60"},
                "hosts": [{"host": "games.example.org"}, {"host": "a.example.org", "path": "/b"}],
                "tls": [{"secretName": "certificate", "hosts": ["games.example.org"]}],
            }
        },
        outside={
            **DATABASE,
            ("IngressClass", "nginx"): set(),
            ("Secret", "certificate"): {"tls.crt", "tls.key"},
        },
    ),
    "http-route": Example(
        {
            "httpRoute": {
                "enabled": True,
                "annotations": {"example.org/team": "games"},
                "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "path": "/games",
            }
        },
        outside={**DATABASE, ("Gateway", "public"): set()},
    ),
    "tracing": Example({"tracing": {"endpoint": "https://collector.example.org"}}),
    "database-url": Example(
        {"database": {"url": "postgresql://user:password@postgres:6432/shop", "port": 6432}},
        outside={},
    ),
    "existing-secret": Example(
        {"database": {"existingSecret": "postgres", "urlKey": "address"}},
        outside={("Secret", "postgres"): {"address"}},
    ),
    "pre-stop": Example({"server": {"preStopSeconds": 5, "terminationGracePeriodSeconds": 55}}),
    "load-balancer": Example(
        {
            "service": {
                "type": "LoadBalancer",
                "port": 8080,
                "annotations": {"example.org/internal": "true"},
            }
        }
    ),
    "service-account": Example(
        {"serviceAccount": {"name": "shared"}},
        outside={**DATABASE, ("ServiceAccount", "shared"): set()},
    ),
    "role": Example({"serviceAccount": {"annotations": {"example.org/role": "games"}}}),
    "image": Example(
        {"image": {"repository": "example.org/games", "digest": f"sha256:{'0' * 64}"}}
    ),
    "peers": Example(
        {
            "networkPolicy": {
                "ingressFrom": [{"namespaceSelector": {"matchLabels": {"public": "yes"}}}],
                "scrapersFrom": [],
                "databaseTo": [{"ipBlock": {"cidr": "10.1.2.0/24"}}],
                "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
            }
        }
    ),
    "sidecar": Example(
        {
            "sidecars": [
                {
                    "name": "proxy",
                    "image": "example.org/proxy:1",
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
                        "limits": {"memory": "64Mi", "ephemeral-storage": "16Mi"},
                    },
                    "livenessProbe": {"tcpSocket": {"port": 3000}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 3000}},
                    "ports": [{"name": "proxy", "containerPort": 3000}],
                }
            ]
        }
    ),
    "extras": Example(
        EXTRAS,
        outside={
            **DATABASE,
            ("ConfigMap", "rules"): set(),
            ("ConfigMap", "shared"): set(),
            ("PriorityClass", "system-cluster-critical"): set(),
            ("Secret", "more"): set(),
            ("Secret", "registry"): set(),
            ("Secret", "tokens"): {"bank"},
        },
    ),
}


@cache
def rendered(
    kubernetes: str = charts.KUBERNETES, namespace: str = charts.NAMESPACE
) -> Mapping[str, Rendered]:
    """Return every example rendered for a version of Kubernetes."""

    def render(example: Example) -> Rendered:
        return example.render(kubernetes, namespace=namespace)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(EXAMPLES, threads.map(render, EXAMPLES.values()), strict=True))


def write(folder: Path, kubernetes: str = charts.KUBERNETES) -> list[Path]:
    """Write every example into a file of its own, named for it."""
    return [
        save(made.objects, folder / f"{name}.yaml") for name, made in rendered(kubernetes).items()
    ]


def save(objects: Iterable[Object], path: Path) -> Path:
    """Write objects into a file, as helm does."""
    path.write_text(yaml.dump_all(objects, Dumper=DUMPER), encoding="utf-8")
    return path
