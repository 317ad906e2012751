"""The contract: pools, threads, workers, replicas, timeouts, shutdown and memory as one arithmetic."""
