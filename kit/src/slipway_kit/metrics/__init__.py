"""Prometheus instruments, the files that worker slots write them to, and their exporter."""
