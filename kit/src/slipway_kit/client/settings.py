"""Connection pool, timeouts and retries of outbound HTTP calls."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group


class HttpClientSettings(Group):
    """Connection pool, timeouts and retries of outbound HTTP calls."""

    model_config = SettingsConfigDict(env_prefix="HTTP_CLIENT_")

    max_connections: int = Field(
        default=100, ge=1, le=10_000, description="most outbound connections of one worker"
    )
    keepalive_expiry_seconds: float = Field(
        default=30, ge=0, le=3600, description="seconds an idle outbound connection is kept"
    )
    connect_timeout_seconds: float = Field(
        default=2, gt=0, le=600, description="longest wait for an outbound connection to open"
    )
    read_timeout_seconds: float = Field(
        default=5, gt=0, le=600, description="longest wait for the next bytes, sent or received"
    )
    pool_timeout_seconds: float = Field(
        default=2, gt=0, le=600, description="longest wait for one of the outbound connections"
    )
    total_timeout_seconds: float = Field(
        default=7, gt=0, le=600, description="longest outbound call, seconds over all attempts"
    )
    retries: int = Field(
        default=2, ge=0, le=10, description="retries of an outbound call where that is safe"
    )
    max_response_bytes: int = Field(
        default=10 * 2**20,
        ge=1,
        description="largest response to an outbound call, bytes after decompression",
    )
    trust_env: bool = Field(
        default=False,
        description="take proxies, .netrc and certificates from the environment (HTTPS_PROXY, ...)",
    )
