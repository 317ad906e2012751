"""Rules on NetworkPolicies: what must be reached can be."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.chart.charts import Object
from tests.chart.objects import Pod, Release, hook, selects, title

PORTS = {"http": 80, "https": 443, "postgresql": 5432}
DNS = 53


def covered(release: Release) -> Iterator[str]:
    """Every pod has a policy from its first moment, and every policy a pod."""
    for policy in release.of("NetworkPolicy"):
        if not release.selected(policy["spec"]["podSelector"]):
            yield f"{title(policy)} selects no pod"
    if release.of("NetworkPolicy"):
        for pod in release.pods:
            if not _policies(release, pod):
                yield f"{pod} runs without a NetworkPolicy"


def _policies(release: Release, pod: Pod) -> list[Object]:
    """Return the policies that are there when the pod starts on a first installation."""
    when = hook(pod.owner)
    found = []
    for policy in release.of("NetworkPolicy"):
        made = hook(policy)
        if when is None or not when.early:
            in_time = made is None
        else:
            in_time = made is not None and made.events >= when.events and made.weight < when.weight
        if in_time and selects(policy["spec"]["podSelector"], pod.labels):
            found.append(policy)
    return found


def entrances(release: Release) -> Iterator[str]:
    """Policies let in to each port that a Service leads to, and to no port that is not there."""
    for policy in release.of("NetworkPolicy"):
        pods = release.selected(policy["spec"]["podSelector"])
        rules = policy["spec"].get("ingress", [])
        for port in [port for rule in rules for port in rule.get("ports", [])]:
            if not any(pod.port(port["port"]) for pod in pods):
                yield f"{title(policy)} opens port {port['port']}, which no pod has"
        for pod in pods:
            for port in release.served(pod):
                if not any(_admits(rule, port) for rule in rules):
                    yield f"{title(policy)} lets nobody in to port {port['containerPort']} of {pod}"


def tests(release: Release) -> Iterator[str]:
    """The tests get out to every port that a Service leads to, and in."""
    for test in release.pods:
        if "test" in getattr(hook(test.owner), "events", ()):
            for pod in release.pods:
                for port in release.served(pod):
                    yield from _reaches(release, test, pod, port)


def _reaches(release: Release, test: Pod, pod: Pod, port: Object) -> Iterator[str]:
    for chosen, direction, peers, other in (
        (pod, "ingress", "from", test),
        (test, "egress", "to", pod),
    ):
        for policy in _policies(release, chosen):
            rules = policy["spec"].get(direction, [])
            if not any(_admits(rule, port) and _is_peer(rule, peers, other) for rule in rules):
                number = port["containerPort"]
                yield f"{title(policy)} keeps {test} from port {number} of {pod} ({direction})"


def exits(release: Release) -> Iterator[str]:
    """Policies let out to names and to every address that the settings hold."""
    for pod in release.pods:
        settings = {
            name: value
            for container in pod.containers
            for name, value in release.settings(container).items()
        }
        wanted = [("names", {"containerPort": DNS, "protocol": way}) for way in ("UDP", "TCP")]
        for name, value in settings.items():
            url = urlsplit(value)
            # A migration is given all settings, and uses those of the database.
            used = pod.owner["kind"] == "Deployment" or name.startswith("DATABASE_")
            if used and url.scheme in PORTS and url.hostname:
                wanted.append((name, {"containerPort": url.port or PORTS[url.scheme]}))
        for policy in _policies(release, pod):
            if "Egress" not in policy["spec"]["policyTypes"]:
                continue
            for name, port in wanted:
                if not any(_admits(rule, port) for rule in policy["spec"].get("egress", [])):
                    number, way = port["containerPort"], port.get("protocol", "TCP")
                    yield f"{title(policy)} keeps {pod} from {name} at port {number}/{way}"


def types(release: Release) -> Iterator[str]:
    """A policy is about both directions, else what it does not say is open."""
    for policy in release.of("NetworkPolicy"):
        if sorted(policy["spec"].get("policyTypes", [])) != ["Egress", "Ingress"]:
            yield f"{title(policy)} is not about both directions"


def _admits(rule: Object, port: Object) -> bool:
    """Return whether a rule is about this port of a container."""
    return "ports" not in rule or any(
        each.get("protocol", "TCP") == port.get("protocol", "TCP")
        and (
            each["port"] in (port["containerPort"], port.get("name"))
            or _between(each, port["containerPort"])
        )
        for each in rule["ports"]
    )


def _between(each: Object, number: int) -> bool:
    return "endPort" in each and each["port"] <= number <= each["endPort"]


def _is_peer(rule: Object, peers: str, pod: Pod) -> bool:
    """Return whether a rule is about this pod of the same namespace."""
    named: list[dict[str, Any]] = rule.get(peers, [])
    return not named or any(
        selects(each["podSelector"], pod.labels)
        for each in named
        if "podSelector" in each and "namespaceSelector" not in each
    )
