"""Work beside the request: tasks, queues, batches, caches, threads and processes."""

from slipway_kit.concurrency.batcher import Batcher, BatcherClosed, BatcherFull, LoadTooSlow
from slipway_kit.concurrency.cache import Cache, ComputationCut, ComputationTooSlow
from slipway_kit.concurrency.offload import Offload
from slipway_kit.concurrency.process_pool import (
    ComputationLost,
    ComputationTimeout,
    JobError,
    ProcessPoolFull,
)
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.concurrency.thread_pool import ThreadPoolFull
from slipway_kit.concurrency.work_queue import QueueClosed, QueueFull, WorkQueue

__all__ = [
    "Batcher",
    "BatcherClosed",
    "BatcherFull",
    "Cache",
    "ComputationCut",
    "ComputationLost",
    "ComputationTimeout",
    "ComputationTooSlow",
    "JobError",
    "LoadTooSlow",
    "Offload",
    "ProcessPoolFull",
    "QueueClosed",
    "QueueFull",
    "Tasks",
    "ThreadPoolFull",
    "WorkQueue",
]
