"""The objects of a release by what they are to each other: pods, selectors, references, hooks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart.charts import Object

WORKLOADS = ("Deployment", "Job")

# Fields that hold the name of an object, and the kind of it.
NAMES = {
    "claimName": "PersistentVolumeClaim",
    "ingressClassName": "IngressClass",
    "priorityClassName": "PriorityClass",
    "secretName": "Secret",
    "serviceAccountName": "ServiceAccount",
}
# Fields that hold an object with a field `name`.
REFERENCES = {
    "configMap": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "imagePullSecrets": "Secret",
    "parentRefs": "Gateway",
    "secret": "Secret",
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
}


@dataclass(frozen=True)
class Reference:
    """What one object says of another one: that it is there, and has these keys."""

    kind: str
    name: str
    keys: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Hook:
    """When Helm makes an object that is no part of the release itself."""

    events: frozenset[str]
    weight: int
    deletion: frozenset[str]

    @property
    def early(self) -> bool:
        """Whether nothing of a first release is there yet."""
        return "pre-install" in self.events


@dataclass(frozen=True)
class Pod:
    """What a workload makes."""

    owner: Object
    labels: Mapping[str, str]
    spec: Object

    def __str__(self) -> str:
        return title(self.owner)

    @property
    def containers(self) -> list[Object]:
        """Every container, those that run before the others too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> list[Object]:
        """Every port that a container names."""
        return [port for container in self.containers for port in container.get("ports", [])]

    def port(self, wanted: str | int) -> Object | None:
        """Return the port of this name or number."""
        for port in self.ports:
            if wanted in (port.get("name"), port["containerPort"]):
                return port
        return None


class Release:
    """Objects as one whole."""

    def __init__(self, objects: Iterable[Object]) -> None:
        """Take what helm rendered."""
        self.objects = list(objects)
        self.pods = [
            Pod(each, pod["metadata"].get("labels", {}), pod["spec"])
            for each in self.objects
            if each["kind"] in WORKLOADS
            for pod in [each["spec"]["template"]]
        ]

    def of(self, kind: str) -> list[Object]:
        """Return every object of this kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def get(self, kind: str, name: str) -> Object | None:
        """Return the object of this kind and name."""
        found = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found[0] if found else None

    def selected(self, selector: Mapping[str, Any]) -> list[Pod]:
        """Return the pods that a selector of pods finds."""
        return [pod for pod in self.pods if selects(selector, pod.labels)]

    def served(self, pod: Pod) -> list[Object]:
        """Return the ports of a pod that Services lead to."""
        found = [
            pod.port(port.get("targetPort", port["port"]))
            for service in self.of("Service")
            if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
            for port in service["spec"]["ports"]
        ]
        return [port for port in found if port is not None]

    def settings(self, container: Object) -> dict[str, str]:
        """Return the environment of a container as far as the release holds it."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            name = source.get("configMapRef", {}).get("name", "")
            found |= (self.get("ConfigMap", name) or {}).get("data", {})
        for each in container.get("env", []):
            secret = each.get("valueFrom", {}).get("secretKeyRef", {})
            data = (self.get("Secret", secret.get("name", "")) or {}).get("stringData", {})
            found[each["name"]] = each.get("value", data.get(secret.get("key"), ""))
        return found


def title(each: Object) -> str:
    """Return kind and name."""
    return f"{each['kind']} {each['metadata']['name']}"


def hook(each: Object) -> Hook | None:
    """Return when Helm makes this object, or None for a part of the release."""
    annotations = each["metadata"].get("annotations", {})
    if "helm.sh/hook" not in annotations:
        return None
    events, deletion = (
        frozenset(part.strip() for part in annotations.get(name, "").split(","))
        for name in ("helm.sh/hook", "helm.sh/hook-delete-policy")
    )
    return Hook(events, int(annotations.get("helm.sh/hook-weight", 0)), deletion)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a selector (matchLabels, matchExpressions) finds these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(labels.get(each["key"]), each["operator"], each.get("values", []))
        for each in selector.get("matchExpressions", [])
    )


def _holds(value: str | None, operator: str, values: list[str]) -> bool:
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[operator]


def references(value: object) -> Iterator[Reference]:
    """Yield what is said anywhere in a manifest of objects that must exist."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if not isinstance(value, dict):
        return
    for field, inside in value.items():
        if field in NAMES and isinstance(inside, str):
            yield Reference(NAMES[field], inside)
        elif field == "scaleTargetRef":
            yield Reference(inside["kind"], inside["name"])
        elif field in REFERENCES:
            yield from _named(REFERENCES[field], inside)
        yield from references(inside)


def _named(kind: str, inside: Any) -> Iterator[Reference]:  # noqa: ANN401 (any part of a manifest)
    for each in inside if isinstance(inside, list) else [inside]:
        name = each.get("name", each.get("secretName"))
        if name and not each.get("optional"):
            items = each.get("items", [each] if "key" in each else [])
            yield Reference(kind, name, frozenset(item["key"] for item in items))
