"""Database URLs in each form that operators hand out, parsed for asyncpg."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import unquote

TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_URL = re.compile(
    r"(?P<scheme>postgres|postgresql|postgresql\+asyncpg)://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:@/?#\[\]]*)(?::(?P<port>[0-9]+))?"
    r"(?:/(?P<name>[^/?#]*))?(?:\?(?P<query>[^#]*))?"
)
_PARAMETERS = "application_name, host, port, ssl, sslcert, sslkey, sslmode, sslrootcert"


class AddressError(ValueError):
    """The address is invalid; the message never contains a part that may be secret."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of the connection; the modes are those of libpq's `sslmode`."""

    mode: TlsMode = "prefer"
    root: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Raise `AddressError` when fields contradict each other."""
        if self.root and self.mode in {"disable", "allow", "prefer"}:
            raise AddressError(
                f"sslrootcert checks nothing with sslmode={self.mode}; use sslmode=verify-full"
            )
        if self.certificate and self.mode in {"disable", "allow", "prefer"}:
            raise AddressError(f"sslcert needs sslmode=require or stricter, not {self.mode}")
        if self.key and not self.certificate:
            raise AddressError("sslkey needs sslcert")
        if self.mode in {"verify-ca", "verify-full"} and not self.root:
            raise AddressError(
                f"sslmode={self.mode} needs sslrootcert: a file, or system for the system's store"
            )
        if self.root == "system" and self.mode != "verify-full":
            raise AddressError("sslrootcert=system needs sslmode=verify-full")

    def argument(self) -> ssl.SSLContext | str | bool:
        """Return asyncpg's `ssl` argument; raise `AddressError` for a file that cannot be used."""
        if self.mode == "disable":
            return False
        if self.mode in {"allow", "prefer"}:
            return self.mode
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode == "verify-full"
        if self.root is None:
            context.verify_mode = ssl.CERT_NONE
        elif self.root == "system":
            context.load_default_certs()
        else:
            with _named("sslrootcert", self.root):
                context.load_verify_locations(cafile=self.root)
        if self.certificate:
            with _named("sslcert", self.certificate):
                # An empty password: without it OpenSSL prompts on the terminal for that of the key.
                context.load_cert_chain(self.certificate, self.key, password="")
        return context


@contextmanager
def _named(parameter: str, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or type(error).__name__
        raise AddressError(f"{parameter} {path} cannot be used: {reason}") from error


@dataclass(frozen=True, slots=True)
class Address:
    """One database and its role; `None` means PostgreSQL's default."""

    host: str | None = None
    port: int = 5432
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str | None = None
    application_name: str | None = None
    tls: Tls = field(default_factory=Tls)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect`."""
        # Like libpq, ignore sslmode on a local socket.
        on_socket = self.host is None or self.host.startswith("/")
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.name,
            "ssl": False if on_socket else self.tls.argument(),
        }


def parse(url: str) -> Address:
    """Parse a URL or raise `AddressError`."""
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise AddressError(
            "it is not of the form postgresql://user:password@host:port/name"
            " (one host; write special characters of user and password as %XX)"
        )
    parameters = dict(_parameters(match["query"] or ""))
    host = unquote(match["host"]).strip("[]") or parameters.get("host")
    return Address(
        host=host or None,
        port=_port(match["port"] or parameters.get("port") or "5432"),
        user=unquote(match["user"] or "") or None,
        password=unquote(match["password"] or "") or None,
        name=unquote(match["name"] or "") or None,
        application_name=parameters.get("application_name"),
        tls=_tls(parameters),
    )


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in _PARAMETERS.split(", "):
            # The name is not shown: it may be part of a password with an unescaped question mark.
            raise AddressError(f"it has a parameter that is none of {_PARAMETERS}")
        if value:
            yield name, unquote(value)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - the highest port
        raise AddressError("its port is not a number from 1 to 65535")
    return int(text)


def _tls(parameters: dict[str, str]) -> Tls:
    mode = parameters.get("sslmode") or parameters.get("ssl") or "prefer"
    if mode not in get_args(TlsMode):
        raise AddressError(f"its sslmode is none of {', '.join(get_args(TlsMode))}")
    files = {name: str(Path(path).expanduser()) for name, path in parameters.items()}
    return Tls(
        cast("TlsMode", mode),
        parameters.get("sslrootcert"),
        files.get("sslcert"),
        files.get("sslkey"),
    )
