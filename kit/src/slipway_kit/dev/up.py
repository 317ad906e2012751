"""Bring the service up in the cluster of kubectl's current context, and print where it answers.

`make up` builds the image, loads it, installs the chart with values-dev.yaml, and forwards both
ports until Ctrl-C. The database is a PostgreSQL beside it, unless a Secret names another one.
`make down` removes the namespace that `make up` made, with its data. NAMESPACE, PORT and
METRICS_PORT are settings; slipway_kit/dev/cluster.py says how the image reaches the cluster.
"""

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slipway_kit.dev import about, cluster, image, programs

MADE_BY = "app.kubernetes.io/managed-by"
MAKER = "make-up"
POSTGRES = Path(__file__).with_name("files") / "postgres.yaml"
ANSWER_SECONDS = 30


class UpError(Exception):
    """The service is not up; the text says what to do."""


@dataclass(frozen=True)
class Place:
    """A namespace of the cluster for the service `slug`, and the programs that reach it."""

    namespace: str
    slug: str
    postgres_image: str = "postgres:17"
    run: programs.Run = programs.run

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in the namespace."""
        return self.run(["kubectl", "--namespace", self.namespace, *arguments], stdin)

    def there(self, kind: str, name: str) -> bool:
        """Tell whether an object exists."""
        return bool(self.kubectl("get", kind, name, "--ignore-not-found", "--output", "name"))

    def make(self) -> None:
        """Make the namespace, and remember that it may be removed; one that is there stays."""
        if not self.there("namespace", self.namespace):
            self.kubectl("create", "namespace", self.namespace)
            self.kubectl("label", "namespace", self.namespace, f"{MADE_BY}={MAKER}")

    def remove(self) -> None:
        """Remove the namespace with all that is in it; raise `UpError` for one of others."""
        made = self.kubectl(
            *("get", "namespace", "--selector", f"{MADE_BY}={MAKER}"),
            *("--field-selector", f"metadata.name={self.namespace}", "--output", "name"),
        )
        if not made and not self.there("namespace", self.namespace):
            raise UpError(f"there is no namespace {self.namespace}: nothing is up.")
        if not made:
            raise UpError(
                f"make up did not make the namespace {self.namespace}, so it stays:"
                f" `helm uninstall {self.slug} --namespace {self.namespace}` removes the service."
            )
        self.run(["kubectl", "delete", "namespace", self.namespace])

    def give_database(self) -> None:
        """Install PostgreSQL, unless a Secret names another one, and wait until it answers."""
        database = f"{self.slug}-database"
        if not self.there("secret", database):
            password = secrets.token_hex(16)
            url = f"postgresql://service:{password}@postgres:5432/service"
            made = [
                secret("postgres", password=password),
                secret(database, url=url),
            ]
            self.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
        if self.there("secret", "postgres"):
            self.apply(postgres(self.postgres_image))
            self.kubectl("rollout", "status", "statefulset/postgres", "--timeout", "180s")

    def apply(self, manifest: str) -> None:
        """Apply a manifest."""
        self.kubectl("apply", "--filename", "-", stdin=manifest)

    def install(self, name: str, *values: str) -> None:
        """Install the chart, or upgrade it, and wait until its pods are ready."""
        repository, _, tag = name.rpartition(":")
        strings = ",".join([f"image.repository={repository}", f"image.tag={tag}", *values])
        self.run(
            [
                *("helm", "upgrade", "--install", self.slug, "chart"),
                *("--namespace", self.namespace),
                *("--values", "chart/values-dev.yaml"),
                *("--set-string", strings),
                *("--wait", "--timeout", "300s"),
            ]
        )


def postgres(image: str) -> str:
    """Return the manifest of PostgreSQL, whose password is in the Secret `postgres`."""
    return POSTGRES.read_text(encoding="utf-8").replace("POSTGRES_IMAGE", image)


def secret(name: str, **data: str) -> dict[str, object]:
    """Return a Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "stringData": data,
    }


def build(environment: Mapping[str, str]) -> str:
    """Build and load the image, and return its name there: another one for other content."""
    name = f"{about.read().image}:dev"
    engine = image.find_engine(environment.get("ENGINE", ""))
    image.build({**environment, "IMAGE": name, "ENGINE": engine})
    tagged = f"{name}-{image.identity(engine, name)}"
    programs.run([engine, "tag", name, tagged])
    return cluster.deliver(tagged, engine=engine, environment=environment)


Process = subprocess.Popen[str]


@contextmanager
def forwarding(namespace: str, service: str, local: int, port: int) -> Iterator[Process]:
    """Forward a local port to a Service within this block."""
    target = ["port-forward", "--address", "127.0.0.1", f"service/{service}", f"{local}:{port}"]
    command = ["kubectl", "--namespace", namespace, *target]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def require_free(port: int) -> None:
    """Raise `UpError` when something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UpError(f"port {port} is in use: PORT and METRICS_PORT name others.") from None


def wait_until_it_answers(port: int, path: str, forward: Process) -> None:
    """Return when the port answers; raise `UpError` when the forward ends before, or never."""
    give_up = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < give_up:
        if forward.poll() is not None:
            raise UpError(f"port {port} could not be forwarded; the last line says why.")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            connection.getresponse()
            return
        time.sleep(0.2)
    raise UpError(f"port {port} did not answer within {ANSWER_SECONDS} s.")


def up(place: Place, environment: Mapping[str, str]) -> None:
    """Do it all, and stay until Ctrl-C or until a forward ends."""
    port, metrics = (
        int(environment.get(name) or default)
        for name, default in (("PORT", 8000), ("METRICS_PORT", 9000))
    )
    for each in (port, metrics):
        require_free(each)
    name = build(environment)
    place.make()
    place.give_database()
    place.install(name)
    slug, here = place.slug, f"http://127.0.0.1:{port}"
    with (
        forwarding(place.namespace, slug, port, 80) as api,
        forwarding(place.namespace, f"{slug}-metrics", metrics, 9000) as scrape,
    ):
        wait_until_it_answers(port, "/livez", api)
        wait_until_it_answers(metrics, "/metrics", scrape)
        print(
            f"\n{slug} is up in the namespace {place.namespace} until Ctrl-C:\n"
            f"  {here}/docs\n  {here}/readyz\n  http://127.0.0.1:{metrics}/metrics\n"
            "make down removes it, with its database.",
            flush=True,
        )
        while api.poll() is None and scrape.poll() is None:
            time.sleep(0.5)
    raise UpError("the connection to the pods has ended: `make up` makes a new one.")


def main(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Bring the service up, or with the argument `down` remove it."""
    context = cluster.current_context()
    slug = about.read().slug
    place = Place(
        namespace=environment.get("NAMESPACE") or slug,
        slug=slug,
        postgres_image=environment.get("E2E_POSTGRES_IMAGE") or "postgres:17",
    )
    print(f"In the context {context}, namespace {place.namespace}", flush=True)
    if arguments == ["down"]:
        place.remove()
    else:
        up(place, environment)


if __name__ == "__main__":
    try:
        main(sys.argv[1:], os.environ)
    except (UpError, cluster.ClusterError, image.ImageError, programs.ProgramError) as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        print()
