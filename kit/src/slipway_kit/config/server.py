"""Settings of the process model and of the HTTP server."""

import math
import re
import socket
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator

from slipway_kit.capacity.sums import ShutdownPlan
from slipway_kit.config.cgroup import CgroupLimits
from slipway_kit.config.group import COMMAS, Group
from slipway_kit.errors import SettingsError

MIB = 1024 * 1024
# Browsers leave out the usual port.
_ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9_.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]*)?"
)


class ServerSettings(Group):
    """Settings of processes, requests, logs and documentation."""

    owned_prefixes = (
        "ADMISSION",
        "APP_",
        "CORS_",
        "DOCS_",
        "FORWARDED_ALLOW_",
        "HSTS_",
        "KEEP_ALIVE_",
        "LOG_",
        "MAX_BODY_",
        "MAX_REQUESTS",
        "METRICS_",
        "OBSERVE_",
        "REQUEST_TIMEOUT_",
        "SHUTDOWN_",
        "STARTUP_",
        "THREADPOOL_",
        "UPLOAD_MIN_",
        "WEB_CONCURRENCY",
        "WORKER_",
    )

    app_env: Literal["development", "production"] = Field(
        default="development", description="production turns the docs off and logs JSON"
    )
    host: str = Field(
        default="127.0.0.1", description="address to listen on; * is every one, IPv4 and IPv6"
    )
    port: int = Field(default=8000, ge=1, le=65535, description="port of the API")
    metrics_port: int = Field(
        default=9000, ge=0, le=65535, description="port of /metrics; 0 serves none"
    )
    web_concurrency: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="worker processes; default: CPU quota rounded up, as far as memory allows",
    )
    # Measured with the shop on Python 3.11: 86 MiB resident after 8,000 requests of 40 clients.
    worker_memory_mib: int = Field(
        default=128, ge=32, description="memory budget of one worker, MiB"
    )
    worker_timeout_seconds: int = Field(
        default=10,
        ge=2,
        le=300,
        description="seconds of a blocked event loop until its worker is replaced",
    )
    startup_seconds: float = Field(
        default=30, gt=0, le=600, description="seconds that the start-up of a worker may take"
    )
    shutdown_seconds: float = Field(
        default=43, ge=2, le=3600, description="seconds of a worker's shutdown, drain included"
    )
    request_timeout_seconds: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="seconds until the first byte of an answer, else 504; an upload adds its own",
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        description="seconds until an idle connection is closed; above the proxy's",
    )
    admission: Literal["protocol", "middleware", "off"] = Field(
        default="protocol",
        description="where requests with too long a queueing delay are refused; off admits all",
    )
    max_requests: int = Field(
        default=0, ge=0, description="requests after which a worker is replaced; 0 never"
    )
    max_requests_allow_stall: bool = Field(
        default=False, description="replace even a single worker, though clients wait meanwhile"
    )
    max_body_bytes: int = Field(default=MIB, ge=1, description="largest request body, bytes")
    # With the largest body 25.6 s, so that a pod ends within 50 s.
    upload_min_bytes_per_second: int = Field(
        default=40 * 1024,
        ge=1,
        description="least rate of an upload; below, it uses up its request's time, then 408",
    )
    threadpool_tokens: int = Field(
        default=40, ge=1, le=1000, description="threads for plain `def` routes, per worker"
    )
    threadpool_wait_seconds: float = Field(
        default=2, gt=0, le=60, description="seconds to wait for a thread, else 503"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] | None = Field(
        default=None, description="default: json in production, console in development"
    )
    docs_enabled: bool | None = Field(
        default=None,
        description="serve /openapi.json and its two pages; default: not in production",
    )
    docs_swagger_enabled: bool = Field(
        default=True, description="serve Swagger UI at /docs, where the docs are enabled"
    )
    docs_redoc_enabled: bool = Field(
        default=True, description="serve ReDoc at /redoc, where the docs are enabled"
    )
    forwarded_allow_ips: str = Field(
        default="127.0.0.1",
        description="proxies with trusted X-Forwarded-*; comma-separated, or *",
    )
    root_path: str = Field(
        default="", description="path prefix at the proxy, which may keep or strip it"
    )
    cors_origins: Annotated[tuple[str, ...], *COMMAS] = Field(
        default=(), description="origins that browsers may call from; comma-separated"
    )
    hsts_seconds: int = Field(
        default=0, ge=0, description="max-age of Strict-Transport-Security; 0 sends none"
    )

    @field_validator("host")
    @classmethod
    def _every_address(cls, host: str) -> str:
        if host != "*":
            return host
        return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in filter(None, map(str.strip, value.split(","))):
            if address != "*":
                ip_network(address)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin as browsers send it, like https://example.org:8443: "
                    "in lower case, without path, wildcard or the usual port"
                )
        return value

    @field_validator("root_path")
    @classmethod
    def _path(cls, value: str) -> str:
        if value and (not value.startswith("/") or value.endswith("/")):
            raise ValueError("it must start with / and not end with one")
        return value

    @property
    def production(self) -> bool:
        """Whether APP_ENV is production."""
        return self.app_env == "production"

    @property
    def serves_docs(self) -> bool:
        """Whether the documentation is served."""
        return not self.production if self.docs_enabled is None else self.docs_enabled

    @property
    def pages(self) -> dict[str, str]:
        """The addresses of the pages that a developer opens."""
        # A browser is led to no address that stands for all.
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host
        docs = self.serves_docs and self.docs_swagger_enabled
        service = f"http://{_authority(host, self.port)}/"
        found = {"docs": f"{service}docs"} if docs else {"service": service}
        if self.metrics_port:
            found["metrics"] = f"http://{_authority(host, self.metrics_port)}/metrics"
        return found

    @property
    def logs_json(self) -> bool:
        """Whether log lines are JSON objects."""
        return self.production if self.log_format is None else self.log_format == "json"

    @property
    def shutdown(self) -> ShutdownPlan:
        """The division of the shutdown time."""
        return ShutdownPlan.within(self.shutdown_seconds)

    def workers(self, limits: CgroupLimits, *, children_mib: float = 0) -> int:
        """Return the number of workers: WEB_CONCURRENCY, else what CPU quota and memory allow.

        Without a CPU quota it is one, however many cores the host has. Each worker needs
        `children_mib` for its child processes.
        """
        if self.web_concurrency is not None:
            return self.web_concurrency
        by_cpu = math.ceil(limits.cpus) if limits.cpus else 1
        if limits.memory_bytes is None:
            return by_cpu
        by_memory = int(limits.memory_bytes // ((self.worker_memory_mib + children_mib) * MIB))
        return max(1, min(by_cpu, by_memory))

    def check_recycling(self, workers: int) -> None:
        """Raise `SettingsError` when a single worker would be recycled."""
        if self.max_requests and workers == 1 and not self.max_requests_allow_stall:
            raise SettingsError(
                "MAX_REQUESTS with one worker stalls every client while it is replaced: set"
                " WEB_CONCURRENCY to 2 or more, or MAX_REQUESTS_ALLOW_STALL=true."
            )

    def bind(self, port: int) -> str:
        """Return the address to bind for gunicorn, IPv6 in brackets."""
        return _authority(self.host, port)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
