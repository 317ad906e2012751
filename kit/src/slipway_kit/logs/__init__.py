"""Structured logs that never make the service wait."""
