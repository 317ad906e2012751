"""OpenTelemetry traces: spans of requests, their export."""
