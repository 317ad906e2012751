"""Outbound HTTP: bounded connections, deadlines, and retries where they are safe."""
