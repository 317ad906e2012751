"""Structured logs that never block the service."""
