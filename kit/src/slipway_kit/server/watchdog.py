"""Watchdog of the event loop: logs the line that blocks it, while it does.

The loop sends heartbeats to a watching thread. Both take 1.4 ms of CPU a second (measured under
gunicorn on Python 3.11, an idle worker with and without it, over 30 s).
"""

import asyncio
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import structlog
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.clock import now
from slipway_kit.config.group import Group
from slipway_kit.http.routes import UNMATCHED, route_template
from slipway_kit.metrics.instruments import Counter

log = structlog.get_logger()

STALLS = Counter("event_loop_stalls_total", "Times that the event loop was blocked for too long.")
# Logged frames of the stack, the innermost.
_FRAMES = 12
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class WatchdogSettings(Group):
    """When the event loop counts as blocked."""

    model_config = SettingsConfigDict(env_prefix="WATCHDOG_")

    # A container over its CPU quota is throttled for up to 100 ms, whatever the code does.
    stall_seconds: float = Field(
        default=0.25,
        ge=0,
        le=60,
        description="seconds that the event loop may be blocked until its line is logged; 0 never",
    )


class Watchdog:
    """Compares heartbeats with the clock: the loop calls `beat`, the watching thread `check`.

    Time in which the whole process did not run is no stall: then the watching thread is late as
    well. A call in C that keeps the GIL delays it too, but uses CPU.
    """

    def __init__(
        self,
        *,
        stall_seconds: float,
        position: Callable[[], dict[str, Any]],
        clock: Callable[[], float] = now,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._stall_seconds, self._position = stall_seconds, position
        self._clock, self._cpu_clock = clock, cpu_clock
        self.period = stall_seconds / 2
        self._beat = self._checked = self._running_since = clock()
        self._cpu = cpu_clock()
        self._stalled: float | None = None

    def beat(self) -> None:
        """Record a heartbeat of the loop."""
        self._beat = self._clock()

    def check(self) -> None:
        """Log a stall when it begins and when it ends."""
        beat, now, cpu = self._beat, self._clock(), self._cpu_clock()
        slept, worked = now - self._checked, cpu - self._cpu
        self._checked, self._cpu = now, cpu
        if slept > self.period + self._stall_seconds and worked < slept / 2:
            self._running_since = now
        if self._stalled is not None and self._stalled != beat:
            seconds = round(beat - self._stalled - self.period, 3)
            log.info("event loop runs again", seconds=seconds)
            self._stalled = None
        late = now - max(beat + self.period, self._running_since)
        if self._stalled is None and late > self._stall_seconds:
            self._stalled = beat
            STALLS.inc()
            log.warning("event loop is blocked", seconds=round(late, 3), **self._position())


@asynccontextmanager
async def open_watchdog(settings: WatchdogSettings) -> AsyncIterator[None]:
    """Watch the running event loop; with 0 seconds do nothing."""
    if not settings.stall_seconds:
        yield
        return
    here, done = threading.get_ident(), threading.Event()
    watchdog = Watchdog(stall_seconds=settings.stall_seconds, position=lambda: position_of(here))

    async def beat() -> None:
        while True:
            watchdog.beat()
            await asyncio.sleep(watchdog.period)

    def watch() -> None:
        while not done.wait(watchdog.period):
            watchdog.check()

    heartbeat = asyncio.create_task(beat())
    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heartbeat.cancel()
        done.set()
        thread.join()


def position_of(thread: int) -> dict[str, Any]:
    """Return what a thread executes: its innermost line outside libraries, stack and request."""
    innermost = sys._current_frames().get(thread)  # noqa: SLF001 (documented, for debuggers)
    if innermost is None:
        return {}
    frames = [frame for frame, _ in traceback.walk_stack(innermost)]
    own = (frame for frame in frames if not frame.f_code.co_filename.startswith(_LIBRARIES))
    # Not `stack`, which structlog reserves.
    stack = tuple(_line(frame) for frame in reversed(frames[:_FRAMES]))
    return {"line": _line(next(own, innermost)), "frames": stack, **_request(frames)}


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _request(frames: list[FrameType]) -> dict[str, str]:
    """Find the request by the `scope` of an ASGI application on the stack."""
    for frame in frames:
        scope = frame.f_locals.get("scope")
        if isinstance(scope, dict) and "request_id" in scope:
            route = route_template(scope) or UNMATCHED
            return {"request_id": scope["request_id"], "route": route}
    return {}
