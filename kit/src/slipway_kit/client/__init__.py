"""Outbound HTTP: bounded connections, deadlines, and retries where they are safe."""

from slipway_kit.client.client import HttpClient, open_http_client
from slipway_kit.client.errors import UpstreamBusy, UpstreamTimeout, UpstreamUnavailable
from slipway_kit.client.settings import HttpClientSettings

__all__ = [
    "HttpClient",
    "HttpClientSettings",
    "UpstreamBusy",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "open_http_client",
]
