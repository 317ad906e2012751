"""Work beside the request: tasks, queues, batches, caches, threads and processes."""
