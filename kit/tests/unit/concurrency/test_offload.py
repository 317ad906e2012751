"""Real processes: what a child is, what it logs, and that none is left."""

import asyncio
import json
import os
import pickle
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import structlog
from structlog.contextvars import bound_contextvars

from slipway_kit.concurrency.offload import open_offload
from slipway_kit.concurrency.process_pool import (
    Child,
    ComputationLost,
    ComputationTimeout,
    OffloadSettings,
)
from slipway_kit.logs import setup as logs
from slipway_kit.pool_child import Job
from slipway_kit.trace_context import continued

pytestmark = pytest.mark.anyio
TRACE = "0af7651916cd43dd8448eb211c80319c"


def children() -> set[int]:
    """Return this process's own: those of a database that other tests use come and go."""
    return {child.pid for child in psutil.Process().children()}


def look_around() -> dict[str, int]:
    """Say what this process is."""
    entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    sockets = [entry for entry in entries if str(entry.readlink()).startswith("socket:")]
    return {"pid": os.getpid(), "session": os.getsid(0), "sockets": len(sockets)}


def say(text: str) -> int:
    structlog.get_logger().info(text)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_computations_share_one_process_of_their_own_and_none_is_left() -> None:
    before, threads = children(), psutil.Process().num_threads()
    async with open_offload(OffloadSettings()) as offload:
        assert children() == before
        found = await offload.compute(look_around)
        assert children() == before | {found["pid"]}
        assert await offload.compute(os.getpid) == found["pid"]
    assert children() == before
    assert psutil.Process().num_threads() <= threads
    assert found["session"] == found["pid"] != os.getpid()
    assert found["sockets"] == 1


async def test_a_process_imports_what_its_calls_import_and_little_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What measures the tests would be imported too.
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)
    async with open_offload(OffloadSettings()) as offload:
        modules = await offload.compute(eval, "set(__import__('sys').modules)")
    heavy = {"asyncio", "fastapi", "gunicorn", "logging", "multiprocessing", "structlog"}
    assert not heavy & modules
    assert "slipway_kit.pool_child" in modules


async def test_the_lines_of_a_computation_name_the_request_and_the_trace_of_its_caller(
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare = logs.LogSetup(level="INFO", json=True, traces=True).apply
    async with open_offload(OffloadSettings(), prepare=prepare) as offload:
        with (
            bound_contextvars(request_id="abc"),
            continued({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}),
        ):
            pid = await offload.compute(say, "first")
        await offload.compute(say, "second")
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert (first["event"], first["pid"], first["request_id"]) == ("first", pid, "abc")
    assert first["trace_id"] == TRACE
    assert second["event"] == "second"
    assert not {"request_id", "trace_id"} & second.keys()


async def test_a_killed_process_is_a_503_for_its_call_alone() -> None:
    before = children()
    async with open_offload(OffloadSettings(size=2)) as offload:
        other = asyncio.create_task(offload.compute(time.sleep, 0.3))
        with pytest.raises(ComputationLost):
            await offload.compute(die)
        assert await offload.compute(abs, -1) == 1
        await other
    assert children() == before


async def test_a_computation_over_its_time_is_a_504_and_its_process_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = children()
    async with open_offload(OffloadSettings(timeout_seconds=30)) as offload:
        first = await offload.compute(os.getpid)
        with monkeypatch.context() as patch:
            brief = OffloadSettings(timeout_seconds=0.05)
            patch.setattr(offload._processes, "_settings", brief)
            with pytest.raises(ComputationTimeout):
                await offload.compute(time.sleep, 60)
        assert await offload.compute(os.getpid) != first
        assert not psutil.pid_exists(first)
    assert children() == before


async def test_a_process_that_computes_at_shutdown_is_killed_in_time() -> None:
    before = children()
    async with open_offload(OffloadSettings(), grace_seconds=0.05) as offload:
        call = asyncio.create_task(offload.compute(time.sleep, 60))
        while children() == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    with pytest.raises(ComputationLost):
        await call
    assert children() == before


async def test_who_waits_for_a_process_that_is_gone_at_once_is_told_so() -> None:
    child = await Child.start()
    pid = int(pickle.loads(await child.run(pickle.dumps(Job(os.getpid)))).result)
    asking = asyncio.create_task(child.run(pickle.dumps(Job(time.sleep, (60,)))))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    # The event loop has no chance to see it before `kill` does.
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)  # noqa: ASYNC251 (that is the point)
    await child.kill()
    async with asyncio.timeout(30):
        with pytest.raises((EOFError, OSError)):
            await asking


async def test_a_process_writes_no_metric_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/somewhere")
    async with open_offload(OffloadSettings()) as offload:
        assert await offload.compute(os.getenv, "PROMETHEUS_MULTIPROC_DIR") is None


async def test_signals_to_the_group_do_not_reach_a_computation() -> None:
    async with open_offload(OffloadSettings()) as offload:
        pid = await offload.compute(os.getpid)
        assert os.getpgid(pid) != os.getpgid(0)


async def test_a_large_argument_and_a_large_result_come_through() -> None:
    data = os.urandom(3_000_000)
    async with open_offload(OffloadSettings()) as offload:
        assert await offload.compute(bytes.__add__, data, b"x") == data + b"x"


async def test_a_blocking_call_runs_in_a_thread() -> None:
    async with open_offload(OffloadSettings()) as offload:
        assert await offload.blocking(os.getpid) == os.getpid()
        offload.declare("files", threads=1)
        assert await offload.blocking(abs, -1, purpose="files") == 1
