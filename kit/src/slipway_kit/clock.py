"""The one clock of deadlines and durations, in seconds.

It is `time.monotonic`, whose times the event loops use too: asyncio's and uvloop's `loop.time()`
can be compared with it, the latter as it was when its turn began and in whole milliseconds.
"""

from time import monotonic as now

__all__ = ["now"]
