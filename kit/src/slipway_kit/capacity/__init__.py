"""Capacity planning: connections, memory, timeouts and shutdown must add up."""
