"""Measure this service: how much it serves, how fast, and what it does with twice of that.

    python -m slipway_kit.dev.bench [PATH...]

Without paths it asks for everything that can be asked for without parameters. One worker has a
core, everything else the others; the database is DATABASE_URL's, else an embedded one that is empty
but for the schema. The table is build/reports/bench.md, and bench.json for programs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from slipway_kit.dev.postgres import environment
from slipway_kit.dev.programs import end_with_us, free_port

REPORTS = Path("build/reports")
CONNECTIONS = 16
SECONDS = 3.0
MULTIPLE = 2.0
START_SECONDS = 60.0
STOP_SECONDS = 40.0
OK, REFUSED = 200, 503
# Cores of this process; the service has the first.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class BenchError(Exception):
    """Nothing can be measured; the text says why."""


def main(paths: list[str]) -> None:
    """Measure, print the table and write it."""
    settings = environment(Path.cwd()) | {"APP_ENV": "production", "WEB_CONCURRENCY": "1"}
    subprocess.run([sys.executable, "-m", "app", "migrate"], env=settings, check=True)
    rows = []
    with serving(settings) as port:
        for path in paths or found(settings):
            rows.append(measure(port, path))
            print(line(rows[-1]), flush=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "bench.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    head = f"{line({name: name for name in rows[0]})}\n{line(dict.fromkeys(rows[0], '---'))}\n"
    table = head + "".join(f"{line(row)}\n" for row in rows)
    (REPORTS / "bench.md").write_text(table, encoding="utf-8")
    print(f"All of it lies in {REPORTS.absolute()}")


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    return f"| {' | '.join(map(str, row.values()))} |"


def found(settings: dict[str, str]) -> list[str]:
    """Return the paths that can be asked for without parameters, of answers in JSON."""
    printed = subprocess.run(
        [sys.executable, "-m", "app", "openapi"],
        env=settings,
        stdout=subprocess.PIPE,
        check=True,
    )
    paths = []
    for path, operations in json.loads(printed.stdout)["paths"].items():
        operation = operations.get("get")
        if operation is None or "{" in path:
            continue
        needs = any(each.get("required") for each in operation.get("parameters", []))
        if not needs and "application/json" in operation["responses"]["200"].get("content", {}):
            paths.append(path)
    # Of a service without routes of its own.
    return paths or ["/health"]


@contextmanager
def serving(settings: dict[str, str]) -> Iterator[int]:
    """Run the service with one worker and give its port; what it logs is read and thrown away."""
    port = free_port()
    with ExitStack() as stack:
        reader = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import sys; [None for _ in sys.stdin.buffer]"],
                stdin=subprocess.PIPE,
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            env=settings | {"HOST": "127.0.0.1", "PORT": str(port), "METRICS_PORT": "0"},
            stdout=reader.stdin,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_us(),  # noqa: PLW1509 (it only makes system calls)
        )
        stack.callback(_stop, process)
        _wait(process, port)
        _share_cores(process.pid)
        yield port


def measure(port: int, path: str) -> dict[str, Any]:
    """Ask for one path as fast as it answers, then for twice as much, open loop."""
    closed = generate(port, [_stream(path, 0)], closed=CONNECTIONS)
    served = [took for _, took, status, _ in closed["answers"] if status == OK]
    if len(served) < len(closed["answers"]) / 2:
        statuses = sorted({status for _, _, status, _ in closed["answers"]})
        raise BenchError(f"{path} answers {statuses}: name paths that answer {OK}")
    capacity = len(served) / SECONDS
    opened = generate(port, [_stream(path, capacity * MULTIPLE), _stream("/livez", 20)])
    load = [answer for answer in opened["answers"] if answer[3] == 0]
    good = [took for _, took, status, _ in load if status == OK]
    refused = [took for _, took, status, _ in load if status == REFUSED]
    return {
        "path": path,
        "answers a second": round(capacity),
        "median, ms": _milliseconds(served, 0.5),
        "p99, ms": _milliseconds(served, 0.99),
        f"at {MULTIPLE:g} x: served of capacity": round(len(good) / SECONDS / capacity, 2),
        "their p99, ms": _milliseconds(good, 0.99),
        "refused": len(refused),
        "refusals' p99, ms": _milliseconds(refused, 0.99),
        "failed": len(load) - len(good) - len(refused),
        "worst probe, ms": _milliseconds(
            [took for _, took, _, number in opened["answers"] if number == 1], 1
        ),
        "generator's lateness, p99, ms": _milliseconds(opened["lateness"], 0.99),
    }


def generate(port: int, streams: list[dict[str, Any]], *, closed: int = 0) -> dict[str, Any]:
    """Run the generator and return what it saw."""
    plan = {"port": port, "streams": streams, "closed": closed}
    done = subprocess.run(
        [sys.executable, "-m", "slipway_kit.dev.openloop"],
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _stream(path: str, rate: float) -> dict[str, Any]:
    return {"path": path, "rate": rate, "begin": 0, "end": SECONDS}


def _milliseconds(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    if not ordered:
        return 0.0
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if b" 200 " in probe.recv(100):
                return
        time.sleep(0.05)
    raise BenchError("the service did not become ready: `make run` says why")


def _share_cores(group: int) -> None:
    """Give the service the first core and everything else the others, where there are more."""
    if len(CORES) < 2:  # noqa: PLR2004 (one for each)
        print("There is one core for all: what is measured is less than the service can do.")
        return
    for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == group:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), CORES[:1])
    os.sched_setaffinity(0, CORES[1:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as problem:
        sys.exit(f"error: {problem}")
