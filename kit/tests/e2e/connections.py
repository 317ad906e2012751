"""How many connections a database has, counted twice a second for as long as it lives."""

import subprocess
import threading
import time
from dataclasses import dataclass, field

from kit.tests.e2e.cluster import Namespace

# Whoever asks through psql is one of the tests.
COUNT = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = 'service' AND application_name <> 'psql'
"""
EVERY_SECONDS = 0.5


@dataclass
class Ledger:
    """What was counted in one namespace, and the budget that its releases printed."""

    space: str
    counted: list[tuple[float, int]] = field(default_factory=list)
    budgets: list[tuple[float, int]] = field(default_factory=list)

    def allowed(self, when: float) -> int | None:
        """Return the budget at a time: until the next release, the one before counts too."""
        known = [budget for began, budget in self.budgets if began <= when]
        return max(known[-2:], default=None)

    def excesses(self) -> list[tuple[int, int]]:
        """Return each count that was above its budget, with the budget."""
        return [
            (count, allowed)
            for when, count in self.counted
            if (allowed := self.allowed(when)) is not None and count > allowed
        ]

    def peak(self) -> int:
        """Return the highest count."""
        return max((count for _, count in self.counted), default=0)


class Sampler:
    """A thread that keeps psql counting in the database's pod, and begins again when that dies."""

    def __init__(self, space: Namespace, ledger: Ledger) -> None:
        self._ledger = ledger
        self._command = [
            *(space.cluster.program, "--namespace", space.name, "exec", "--stdin", "postgres-0"),
            *("--", "psql", "--username", "service", "--dbname", "service"),
            *("--tuples-only", "--no-align", "--quiet", "--file", "-"),
        ]
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"connections of {space.name}")
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and psql with it."""
        self._ended.set()
        if self._process:
            self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._count()
            self._ended.wait(EVERY_SECONDS)

    def _count(self) -> None:
        """Count until psql or its pod ends."""
        with subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            self._process = process
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(f"{COUNT} \\watch {EVERY_SECONDS}\n")
                process.stdin.close()
            except OSError:  # the pod is gone already
                return
            for line in process.stdout:
                if line.strip().isdigit():
                    self._ledger.counted.append((time.monotonic(), int(line)))
                if self._ended.is_set():
                    process.kill()
