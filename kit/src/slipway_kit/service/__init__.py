"""Puts a service together: resources, phases of start and shutdown."""
