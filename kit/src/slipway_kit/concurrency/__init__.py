"""Work beside the request: tasks, queues, batches, caches, threads and processes."""

from slipway_kit.concurrency.batcher import Batcher
from slipway_kit.concurrency.cache import Cache
from slipway_kit.concurrency.offload import Offload, ThreadPoolFull
from slipway_kit.concurrency.process_pool import (
    ComputationLost,
    ComputationTimeout,
    ProcessPoolFull,
)
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.concurrency.work_queue import WorkQueue
from slipway_kit.pool_child import JobError

__all__ = [
    "Batcher",
    "Cache",
    "ComputationLost",
    "ComputationTimeout",
    "JobError",
    "Offload",
    "ProcessPoolFull",
    "Tasks",
    "ThreadPoolFull",
    "WorkQueue",
]
