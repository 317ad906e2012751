"""Algorithms against overload, without any server: queue limits, route shedding, admission."""
