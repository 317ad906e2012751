"""What becomes of requests when something that they need pauses, and comes back.

The processes of the database, of the upstream or of the worker are stopped (SIGSTOP) for up to a
second, in the middle of a load far below what can be served. A pause is no overload: nobody is
refused, and nobody waits for much longer than the pause.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks import overload, services
from benchmarks.overload import CASES, Case
from benchmarks.report import Row
from benchmarks.servers import Server, running

PAUSES_SECONDS = (0.3, 1.0)
# Of the capacity that was measured in the same pass.
SHARES = (0.1, 0.5)
# When the pause begins, and when the load ends after it; the load is steady before and after.
BEGIN_SECONDS, REST_SECONDS = 2.0, 3.0
# How much longer than the pause requests may wait.
GRACE_SECONDS = 0.3
CPU, DATABASE, UPSTREAM, MIX = (CASES[n] for n in (0, 1, 3, 4))


@dataclass(frozen=True)
class Pause:
    """What stops, for how long, amid which share of the capacity."""

    what: str
    case: Case
    seconds: float
    share: float


PAUSED = (
    *(("database", DATABASE), ("database", MIX), ("upstream", UPSTREAM)),
    *(("worker", CPU), ("worker", DATABASE), ("worker", MIX)),
)


@dataclass(frozen=True)
class Pass:
    """What one pause showed; times in seconds."""

    capacity: float
    asked: int
    refused: int
    failed: int
    # Of the requests that were due while it lasted, without the generator's own lateness.
    over: float
    lateness: float

    @property
    def kept(self) -> bool:
        """Whether nobody was refused, nothing failed, and nobody waited for too long."""
        return not self.refused and not self.failed and self.over <= GRACE_SECONDS


@contextmanager
def stopped(processes: Sequence[int], *, begin: float, seconds: float) -> Iterator[None]:
    """Stop processes for so long, `begin` seconds after the block began."""

    def pause() -> None:
        time.sleep(begin)
        _send(signal.SIGSTOP, processes)
        time.sleep(seconds)
        _send(signal.SIGCONT, processes)

    thread = threading.Thread(target=pause)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _send(sig: signal.Signals, processes: Sequence[int]) -> None:
    for pid in processes:
        # The database ends some of its own accord.
        with suppress(ProcessLookupError):
            os.kill(pid, sig)


def with_children(pid: int) -> list[int]:
    """Return a process and all that it started."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def postmaster(url: str) -> int:
    """Return the first process of the database whose socket the URL names."""
    folder = Path(overload.socket_folder(url))
    return int((folder / "postmaster.pid").read_text().split()[0])


def measure(server: Server, pause: Pause, processes: Callable[[], list[int]], *, seed: int) -> Pass:
    """Stop processes amid a share of the capacity."""
    rate = overload.capacity(server, pause.case, seconds=2)
    streams = pause.case.streams(
        rate * pause.share, 0, BEGIN_SECONDS + pause.seconds + REST_SECONDS
    )
    with stopped(processes(), begin=BEGIN_SECONDS, seconds=pause.seconds):
        found = overload.generate(server, streams, seed=seed)
    served = [took for _, took, status, _ in found.answers if status == overload.OK]
    refused = sum(status == services.REFUSED for _, _, status, _ in found.answers)
    lateness = overload.percentile(found.lateness, 0.99)
    # The generator's clock starts later than ours, so the pause is known by who waited.
    waited = [took for took in served if took > pause.seconds / 2]
    over = overload.percentile(waited, 0.99) - pause.seconds - lateness
    return Pass(
        capacity=round(rate, 1),
        asked=len(found.answers),
        refused=refused,
        failed=len(found.answers) - len(served) - refused,
        over=round(over, 4),
        lateness=round(lateness, 5),
    )


def run(folder: Path, *, passes: int, smoke: bool) -> list[Row]:
    """Pause each of them, and return a row for each length and load."""
    rows = []
    with (
        overload.surroundings(folder) as (service, settings, upstream),
        running(overload.own(service, settings)) as server,
    ):
        processes: dict[str, Callable[[], list[int]]] = {
            "database": lambda: with_children(postmaster(settings["DATABASE_URL"])),
            "upstream": lambda: [upstream],
            "worker": lambda: with_children(server.group)[1:],
        }
        for pause in pauses(smoke=smoke):
            seen = [
                measure(server, pause, processes[pause.what], seed=seed) for seed in range(passes)
            ]
            rows.append(row(pause, seen))
    return rows


def pauses(*, smoke: bool) -> list[Pause]:
    """Return every pause, or with `smoke` the longest amid the largest load."""
    lengths = PAUSES_SECONDS[-1:] if smoke else PAUSES_SECONDS
    shares = SHARES[-1:] if smoke else SHARES
    return [
        Pause(what, case, seconds, share)
        for what, case in PAUSED
        for seconds in lengths
        for share in shares
    ]


def row(pause: Pause, seen: list[Pass]) -> Row:
    """Sum up the passes of one pause."""
    return Row(
        name=f"{pause.what} pauses for {pause.seconds:g} s at {pause.share:g} of the capacity,"
        f" {pause.case.name}",
        goal=f"no refusal, no error, p99 at most {GRACE_SECONDS:g} s over the pause",
        measured=max(each.over for each in seen),
        unit="s over the pause in the worst pass",
        ok=all(each.kept for each in seen),
        reason=f"{sum(each.refused for each in seen)} refused and"
        f" {sum(each.failed for each in seen)} failed of {sum(each.asked for each in seen)}",
        counts={"passes": [asdict(each) for each in seen]},
    )
