"""Pods of the tests themselves: as strict as a namespace wants them, from the service's image."""

import json
from pathlib import Path
from typing import Any

from kit.tests.e2e.cluster import Namespace, Object, wait_until

HERE = Path(__file__).parent


def pod(name: str, image: str, script: str, *arguments: str, **labels: str) -> Object:
    """Return a pod that runs a file of this folder with Python."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": strict(
            {
                "name": "test",
                "image": image,
                "command": ["python", "-c", (HERE / script).read_text(encoding="utf-8")],
                "args": list(arguments),
                "resources": {
                    "requests": {"cpu": "25m", "memory": "48Mi"},
                    "limits": {"memory": "96Mi"},
                },
            },
            # It has nothing to finish, and as process 1 it would not hear SIGTERM.
            terminationGracePeriodSeconds=0,
        ),
    }


def strict(container: Object, **more: Any) -> Object:
    """Return the spec of a pod that runs a container once, as a restricted namespace wants it."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {"imagePullPolicy": "IfNotPresent", "securityContext": security, **container}
        ],
        **more,
    }


def start(
    space: Namespace, name: str, image: str, script: str, *arguments: str, **labels: str
) -> None:
    """Start a pod and wait until it runs."""
    space.apply(pod(name, image, script, *arguments, **labels))
    space.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", seconds=70)


class Asker:
    """A client in a pod that asks for one page all the time, on a new connection each time."""

    def __init__(self, space: Namespace, image: str, url: str) -> None:
        self.space, self.name = space, "asker"
        start(space, self.name, image, "asker.py", url)
        wait_until("the first answer", lambda: self.seen().get("asked"), seconds=30)

    def seen(self) -> dict[str, Any]:
        """Return what the client has counted so far."""
        lines = self.space.kubectl("logs", self.name, "--tail", "1").splitlines()
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found

    def counts(self) -> dict[str, Any]:
        """Return what the client has counted, including all that happened before this call."""
        self.wait_for_news()
        # The second line from now on was counted after this call began.
        return self.wait_for_news()

    def wait_for_news(self) -> dict[str, Any]:
        """Return the next line."""
        asked = self.seen()["asked"]
        wait_until("the client goes on", lambda: self.seen()["asked"] > asked, seconds=30)
        return self.seen()

    def stop(self) -> None:
        """End the client."""
        self.space.kubectl("delete", "pod", self.name, "--now")
