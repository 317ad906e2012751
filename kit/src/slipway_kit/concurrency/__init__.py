"""Work beside the request: tasks, queues, batches, caches, threads and processes."""

from slipway_kit.concurrency.batcher import Batcher
from slipway_kit.concurrency.cache import Cache
from slipway_kit.concurrency.offload import Offload
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.concurrency.work_queue import WorkQueue

__all__ = [
    "Batcher",
    "Cache",
    "Offload",
    "Tasks",
    "WorkQueue",
]
