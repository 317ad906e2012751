"""Address, pool and timeouts of the database."""

from pathlib import Path
from socket import gethostname
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group
from slipway_kit.db.address import Address, parse

# PostgreSQL ends a transaction that idles longer, such as an export whose reader stalls.
IDLE_IN_TRANSACTION_MS = 60_000
# PostgreSQL cancels a late statement itself; after this extra time it counts as unreachable.
NETWORK_GRACE_SECONDS = 1.0
# Share of the pool timeout: a hanging connect ends before the requests that wait for it do.
CONNECT_SHARE = 0.75

_SEPARATE_FIELDS = {"host", "port", "name", "user"}


class DatabaseSettings(Group):
    """Address, pool and timeouts of the database."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")

    url: SecretStr | None = Field(
        default=None, description="postgresql://user:password@host:port/name; or the parts below"
    )
    host: str = Field(default="127.0.0.1", description="name, address or socket folder")
    port: int = Field(default=5432, ge=1, le=65535)
    name: str = Field(default="postgres", description="name of the database")
    user: str = Field(default="postgres", description="role that owns or uses the tables")
    password: SecretStr | None = Field(default=None, description="password of the role")
    password_file: Path | None = Field(
        default=None, description="file with the password, read for each new connection"
    )
    required: bool = Field(
        default=False, description="refuse to start when the database does not answer"
    )
    pool_size: int = Field(default=10, ge=1, le=500, description="connections per worker")
    max_overflow: int = Field(
        default=0, ge=0, le=500, description="connections beyond the pool size, during a burst"
    )
    pool_timeout_seconds: float = Field(
        default=2, gt=0, le=60, description="seconds to wait for a connection, else 503"
    )
    statement_timeout_ms: int = Field(
        default=5000, ge=1, le=3_600_000, description="milliseconds a statement may run, else 504"
    )
    pgbouncer: bool = Field(
        default=False,
        description="pgbouncer in transaction mode is used; set statement_timeout on the role",
    )
    echo: bool = Field(default=False, description="log every statement; refused in production")

    @model_validator(mode="after")
    def _check(self) -> Self:
        part = min(_SEPARATE_FIELDS & self.model_fields_set, default="")
        if self.url is not None and part:
            raise _contradiction("DATABASE_URL", f"DATABASE_{part.upper()}")
        passwords = {
            "DATABASE_URL": self.address.password,
            "DATABASE_PASSWORD": self.password,
            "DATABASE_PASSWORD_FILE": self.password_file,
        }
        given = [name for name, password in passwords.items() if password]
        if len(given) > 1:
            raise _contradiction(*given[:2])
        _ = self.connect_arguments  # reads the files that it names
        return self

    @property
    def address(self) -> Address:
        """The address from the URL or from the separate settings."""
        if self.url is None:
            return Address(self.host, self.port, self.user, name=self.name)
        return parse(self.url.get_secret_value())

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """Arguments of `asyncpg.connect`; files are read each time, as they may be rotated."""
        address = self.address
        name = (address.application_name or gethostname())[:63]
        server_settings = {**address.options, "application_name": name}
        arguments = {
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": self._password() or address.password,
            "database": address.name,
            "ssl": address.ssl_argument(),
            "target_session_attrs": address.target_session_attrs,
            "timeout": self.pool_timeout_seconds * CONNECT_SHARE,
            "command_timeout": self.statement_timeout_ms / 1000 + NETWORK_GRACE_SECONDS,
            "server_settings": server_settings,
        }
        if self.pgbouncer:
            # A prepared statement exists on one server connection only.
            arguments["statement_cache_size"] = 0
        else:  # pgbouncer refuses unknown start-up parameters
            server_settings["statement_timeout"] = str(self.statement_timeout_ms)
            server_settings["idle_in_transaction_session_timeout"] = str(IDLE_IN_TRANSACTION_MS)
        return arguments

    def _password(self) -> str | None:
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ValueError(
                f"DATABASE_PASSWORD_FILE {self.password_file} cannot be read"
            ) from None


def _contradiction(one: str, other: str) -> ValueError:
    return ValueError(f"{one} and {other} contradict each other; set one of them")


class ReadinessSettings(Group):
    """What a worker needs to be ready."""

    model_config = SettingsConfigDict(env_prefix="READINESS_")

    requires_database: bool = Field(
        default=False, description="leave the Service while the database does not answer"
    )
