"""Try the chart on the cluster of kubectl's context: install it, test it, upgrade it under load.

`make e2e ARGS="/api/v1/games ..."` asks for these paths, by default for those that need no
parameters. One request that fails during the upgrade fails it. It has a namespace of its own with a
database, NAMESPACE or SLUG-e2e, and removes it again unless E2E_KEEP is set.
"""

import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from slipway_kit.dev import about, bench, cluster, image, programs, up

CLIENT = "e2e-client"
START_SECONDS = 60.0
# What was asked just before the end is answered, and counted, by then.
LAST_SECONDS = 3.0


class E2EError(Exception):
    """The release does not work, or the upgrade cost a request; the text says which."""


def client(image: str, url: str, paths: list[str]) -> dict[str, object]:
    """Return a pod that asks for the paths until it is deleted, as strict as the service's own."""
    text = Path(__file__).with_name("client.py").read_text(encoding="utf-8")
    container = {
        "name": "client",
        "image": image,
        "command": ["python", "-c", text, url, *paths],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": CLIENT}, "spec": spec}


def asked(place: up.Place) -> "Counter[str]":
    """Return how often the client saw what, so far."""
    last = place.kubectl("logs", CLIENT, "--tail", "1")
    return Counter(json.loads(last)) if last.strip() else Counter()


def wait_until_it_asks(place: up.Place, *, seconds: float = START_SECONDS) -> None:
    """Return when the client was answered; raise `E2EError` when it never is."""
    place.kubectl("wait", f"pod/{CLIENT}", "--for", "condition=Ready", "--timeout", "60s")
    give_up = time.monotonic() + seconds
    while not asked(place)["ok"]:
        if time.monotonic() > give_up:
            raise E2EError(f"no path answers: {dict(asked(place))}")
        time.sleep(0.5)


def try_out(place: up.Place, name: str, paths: list[str]) -> str:
    """Install, test and upgrade the release under load, and return what it cost, in one sentence.

    Raises `E2EError` when a request fails meanwhile.
    """
    place.install(name)
    place.run(["helm", "test", place.slug, "--namespace", place.namespace])
    place.apply(json.dumps(client(name, f"http://{place.slug}", paths)))
    wait_until_it_asks(place)
    before = asked(place)
    place.install(name, f"podAnnotations.e2e={secrets.token_hex(4)}")
    time.sleep(LAST_SECONDS)
    during = asked(place) - before
    answered = during.pop("ok", 0)
    if during:
        raise E2EError(f"the upgrade cost {during.total()} requests: {dict(during)}")
    if not answered:
        raise E2EError("nothing was asked during the upgrade, so nothing is known of it.")
    return f"Installed, tested and upgraded: {answered} requests meanwhile, and none failed."


def main(paths: list[str], environment: Mapping[str, str]) -> None:
    """Do all of it in a namespace of its own."""
    slug = about.read().slug
    postgres = environment.get("E2E_POSTGRES_IMAGE") or "postgres:17"
    place = up.Place(environment.get("NAMESPACE") or f"{slug}-e2e", slug, postgres)
    print(f"In the context {cluster.current_context()}, namespace {place.namespace}", flush=True)
    paths = paths or bench.found(dict(environment))
    name = up.build(environment)
    place.make()
    try:
        place.give_database()
        print(try_out(place, name, paths), flush=True)
    finally:
        if not environment.get("E2E_KEEP"):
            place.remove()


PROBLEMS = (E2EError, up.UpError, cluster.ClusterError, image.ImageError, programs.ProgramError)

if __name__ == "__main__":
    try:
        main(sys.argv[1:], os.environ)
    except PROBLEMS as problem:
        sys.exit(f"error: {problem}")
