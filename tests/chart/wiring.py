"""Rules on names: labels, selectors and ports of one thing are written in many places."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.charts import Object
from tests.chart.objects import Pod, Release, hook, selects, title

# What an upgrade gives another value, so that a selector would lose the pods before it.
CHANGING = {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}
COMMON = {f"app.kubernetes.io/{name}" for name in ("component", "instance", "name")}


def one_of_each(release: Release) -> Iterator[str]:
    for name, count in Counter(map(title, release.objects)).items():
        if count > 1:
            yield f"{name} is there {count} times"
    spaces = {each["metadata"].get("namespace") for each in release.objects}
    if len(spaces) > 1 or None in spaces:
        yield f"not one namespace: {sorted(map(str, spaces))}"


def labels(release: Release) -> Iterator[str]:
    """Selectors and labels are of one release."""
    for each in release.objects:
        labels = each["metadata"].get("labels", {})
        if missing := COMMON - labels.keys():
            yield f"{title(each)} lacks the labels {sorted(missing)}"
    for name in ("app.kubernetes.io/name", "app.kubernetes.io/instance"):
        values = {each["metadata"].get("labels", {}).get(name) for each in release.objects}
        values |= {pod.labels.get(name) for pod in release.pods}
        if len(values) > 1:
            yield f"not one value of {name}: {sorted(map(str, values))}"
    for pod in release.pods:
        own = pod.owner["metadata"].get("labels", {})
        for label in sorted(
            COMMON - {name for name in COMMON if own.get(name) == pod.labels.get(name)}
        ):
            yield f"{pod} and its pods differ in {label}"


def selectors(release: Release) -> Iterator[str]:
    """Everything that is about the service's pods finds these and no others."""
    for deployment in release.of("Deployment"):
        spec = deployment["spec"]
        if missing := COMMON - spec["selector"]["matchLabels"].keys():
            yield f"{title(deployment)} selects without {sorted(missing)}"
        if extra := spec["selector"]["matchLabels"].keys() - COMMON:
            yield f"{title(deployment)} selects by {sorted(extra)}, which may change"
        yield from _only(release, title(deployment), spec["selector"])
        for each in spec["template"]["spec"].get("topologySpreadConstraints", []):
            yield from _only(
                release, f"spreading over {each['topologyKey']}", each["labelSelector"]
            )
    for service in release.of("Service"):
        yield from _only(release, title(service), {"matchLabels": service["spec"]["selector"]})
    for budget in release.of("PodDisruptionBudget"):
        yield from _only(release, title(budget), budget["spec"]["selector"])


def lasting(release: Release) -> Iterator[str]:
    """Nothing selects by what an upgrade changes."""
    for each in release.objects:
        for selector in _selectors(each):
            if changing := selector.keys() & CHANGING:
                yield f"{title(each)} selects by {sorted(changing)}, which upgrades change"


def _selectors(part: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in {"matchLabels", "selector"} and isinstance(value, dict):
                yield value
            yield from _selectors(value)
    elif isinstance(part, list):
        for value in part:
            yield from _selectors(value)


def _only(release: Release, what: str, selector: Mapping[str, Any]) -> Iterator[str]:
    kinds = [pod.owner["kind"] for pod in release.selected(selector)]
    if kinds != ["Deployment"]:
        yield f"{what} selects the pods of {kinds or 'nothing'}, not of the Deployment alone"


def ports(release: Release) -> Iterator[str]:
    for service in release.of("Service"):
        for port in service["spec"]["ports"]:
            for pod in release.selected({"matchLabels": service["spec"]["selector"]}):
                target = pod.port(port.get("targetPort", port["port"]))
                if target is None:
                    yield f"{title(service)}: {pod} has no port {port['targetPort']}"
                elif port.get("protocol", "TCP") != target.get("protocol", "TCP"):
                    yield f"{title(service)} and {pod} differ in the protocol of {port['name']}"
    for pod in release.pods:
        for field in ("name", "containerPort"):
            if twice := [key for key, n in Counter(p[field] for p in pod.ports).items() if n > 1]:
                yield f"{pod} has the port {twice[0]} twice"
        for container in pod.containers:
            yield from _own_ports(release, pod, container)


def _own_ports(release: Release, pod: Pod, container: Object) -> Iterator[str]:
    """Probes and settings name ports of the container that has them."""
    there = {key for port in container.get("ports", []) for key in port.values()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container.get(probe, {}).get("httpGet", {}).get("port")
        if asked is not None and asked not in there:
            yield f"{pod}: {probe} asks port {asked}, which {container['name']} lacks"
    numbers = {port["name"]: str(port["containerPort"]) for port in container.get("ports", [])}
    settings = release.settings(container)
    for setting, name in (("PORT", "http"), ("METRICS_PORT", "metrics")):
        if numbers and setting in settings and settings[setting] != numbers.get(name):
            yield f"{pod}: {setting} is {settings[setting]}, its port {name} {numbers.get(name)}"


def ways_in(release: Release) -> Iterator[str]:
    """Whoever publishes the service names a port that a Service has."""
    for each in release.of("Ingress"):
        for rule in each["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                port = backend["port"].get("name", backend["port"].get("number"))
                yield from _leads(release, title(each), backend["name"], port)
    for each in release.of("HTTPRoute"):
        for rule in each["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield from _leads(release, title(each), backend["name"], backend["port"])


def _leads(release: Release, what: str, name: str, port: object) -> Iterator[str]:
    service = release.get("Service", name)
    ports = service["spec"]["ports"] if service else []
    if not any(port in (each["name"], each["port"]) for each in ports):
        yield f"{what} asks {name}:{port}, which is no Service"


def tests(release: Release) -> Iterator[str]:
    """The tests ask each Service, and nothing else."""
    names = {each["metadata"]["name"] for each in release.of("Service")}
    for pod in release.pods:
        if "test" in getattr(hook(pod.owner), "events", ()):
            code = "\n".join(part for each in pod.containers for part in each.get("command", []))
            urls = set(re.findall(r"http://([a-z0-9.-]+)(?::([0-9]+))?", code))
            for name, port in sorted(urls):
                yield from _leads(release, str(pod), name, int(port or 80))
            for name in sorted(names - {name for name, _ in urls}):
                yield f"{pod} never asks Service {name}"


def monitors(release: Release) -> Iterator[str]:
    """A ServiceMonitor finds one Service."""
    for each in release.of("ServiceMonitor"):
        found = [
            service
            for service in release.of("Service")
            if selects(each["spec"]["selector"], service["metadata"]["labels"])
        ]
        if len(found) != 1:
            yield f"{title(each)} finds {len(found)} Services, not one"
        ports = {port["name"] for service in found for port in service["spec"]["ports"]}
        for endpoint in each["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                yield f"{title(each)} scrapes port {endpoint['port']}, not one of {sorted(ports)}"


def queries(release: Release) -> Iterator[str]:
    """Alerts and dashboards ask for what is scraped here."""
    names = {each["metadata"]["name"] for each in release.of("Service")}
    for each in [*release.of("ConfigMap"), *release.of("PrometheusRule")]:
        text = str(each).replace("\\", "")
        for name in sorted(set(re.findall(r'\bservice="([^"]*)"', text)) - names):
            yield f"{title(each)} asks for metrics of Service {name}, which is not there"
        for space in sorted(set(re.findall(r'\bnamespace="([^"$]*)"', text))):
            if space != each["metadata"].get("namespace"):
                yield f"{title(each)} asks for metrics of the namespace {space}"
