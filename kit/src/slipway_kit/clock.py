"""The one clock of deadlines and durations, in seconds.

It is comparable with `loop.time()` of asyncio and of uvloop; uvloop's is in whole milliseconds and
stands still within an iteration of the loop.
"""

from time import monotonic as now

__all__ = ["now"]
