"""The contract: one arithmetic of pools, threads, workers, replicas, timeouts and memory."""
