"""Rules on when things are there: scaling, volumes, hooks and leaving."""

from collections.abc import Iterator

from tests.chart.objects import Hook, Release, hook, references, title

EVENTS = {
    *("pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-rollback"),
    *("post-rollback", "pre-delete", "post-delete", "test"),
}
# Beyond the drain: gunicorn outlives its workers by 2 s, and the pod gunicorn by 5 s.
MARGINS_SECONDS = 7


def scaling(release: Release) -> Iterator[str]:
    for scaler in release.of("HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        target = release.get(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
        if target is None:
            yield f"{title(scaler)} scales {spec['scaleTargetRef']['name']}, which is not there"
            continue
        number = target["spec"].get("replicas", spec["minReplicas"])
        if not spec["minReplicas"] <= number <= spec["maxReplicas"]:
            yield f"{title(scaler)} and {title(target)} fight over the number of pods"
        for metric in spec["metrics"]:
            wanted = metric.get("containerResource", {})
            containers = target["spec"]["template"]["spec"]["containers"]
            requests = [
                each.get("resources", {}).get("requests", {})
                for each in containers
                if not wanted or each["name"] == wanted["container"]
            ]
            name = (wanted or metric["resource"])["name"]
            if not requests or any(name not in each for each in requests):
                yield f"{title(scaler)} measures {name} against a request that is not there"
    for budget in release.of("PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") in (0, "0%"):
            yield f"{title(budget)} lets no node be drained"
        if any(each["spec"].get("replicas", 2) < 2 for each in release.of("Deployment")):
            yield f"{title(budget)} guards a single pod"


def volumes(release: Release) -> Iterator[str]:
    for pod in release.pods:
        names = [each["name"] for each in pod.spec.get("volumes", [])]
        mounted = {each["name"] for one in pod.containers for each in one.get("volumeMounts", [])}
        for name in sorted(mounted - set(names)):
            yield f"{pod} mounts {name}, which is no volume"
        for name in sorted(set(names) - mounted):
            yield f"{pod} mounts its volume {name} nowhere"
        if len(set(names)) < len(names):
            yield f"{pod} has a volume twice: {names}"
        for one in pod.containers:
            paths = [each["mountPath"] for each in one.get("volumeMounts", [])]
            if len(set(paths)) < len(paths):
                yield f"{pod}: {one['name']} mounts a path twice: {paths}"


def shutdown(release: Release) -> Iterator[str]:
    for deployment in release.of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        before = container.get("lifecycle", {}).get("preStop", {})
        pause = before.get("sleep", {}).get("seconds", 0)
        pause = int(before["exec"]["command"][1]) if "exec" in before else pause
        drain = float(release.settings(container).get("SHUTDOWN_SECONDS", 0))
        need = pause + drain + MARGINS_SECONDS
        if pod["terminationGracePeriodSeconds"] < need:
            grace = pod["terminationGracePeriodSeconds"]
            yield f"{title(deployment)} is killed after {grace} s, and needs {need:g} s to leave"


def hooks(release: Release) -> Iterator[str]:
    """A hook is made anew each time, and finds what it needs."""
    for each in release.objects:
        when = hook(each)
        if when is None:
            continue
        if unknown := when.events - EVENTS:
            yield f"{title(each)} waits for {sorted(unknown)}, which never happens"
        if "before-hook-creation" not in when.deletion:
            yield f"{title(each)} is in the way of its successor"
        for wanted in sorted(set(references(each)), key=str):
            needed = release.get(wanted.kind, wanted.name)
            if needed is not None and when.early and not _earlier(hook(needed), when):
                yield f"{title(each)} runs before there is a {wanted}"
    jobs = [pod for pod in release.pods if pod.owner["kind"] == "Job"]
    for pod in jobs:
        if pod.spec.get("restartPolicy") not in {"Never", "OnFailure"}:
            yield f"{pod} restarts for ever"
        if hook(pod.owner) is None:
            yield f"{pod} is no hook, and a Job cannot be changed"


def _earlier(needed: Hook | None, user: Hook) -> bool:
    return needed is not None and needed.events >= user.events and needed.weight < user.weight
