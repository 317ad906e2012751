"""Database URLs in each form that operators hand out, parsed for asyncpg."""

import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

_URL = re.compile(
    r"(?:postgres|postgresql|postgresql\+asyncpg)://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:@/?#\[\]]*)(?::(?P<port>[0-9]+))?"
    r"(?:/(?P<name>[^/?#]*))?(?:\?(?P<query>[^#]*))?"
)
_PARAMETERS = (
    "application_name, channel_binding, connect_timeout, host, options, port, ssl, sslcert, sslkey,"
    " sslmode, sslrootcert, target_session_attrs"
)
# asyncpg has no channel binding, and DATABASE_POOL_TIMEOUT_SECONDS bounds connecting.
_LEFT_OUT = ("channel_binding", "connect_timeout")
_SESSIONS = "any, primary, standby, prefer-standby, read-write, read-only"
_OPTION = r"\s*(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\s\\])*)\s*"
_SSL_MODES = "disable, allow, prefer, require, verify-ca, verify-full"
_HIGHEST_PORT = 65535


class AddressError(ValueError):
    """The address is invalid; the message never contains a part that may be secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"DATABASE_URL: {reason}")


@dataclass(frozen=True, slots=True)
class Address:
    """One database and its role; `None` means PostgreSQL's default. TLS is set as in libpq."""

    host: str | None = None
    port: int = 5432
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str | None = None
    application_name: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    target_session_attrs: str = "any"
    # Settings of the server for each session.
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `AddressError` when parameters are unknown or contradict each other."""
        mode = self.sslmode
        if mode not in _SSL_MODES.split(", "):
            raise AddressError(f"its sslmode is none of {_SSL_MODES}")
        if self.target_session_attrs not in _SESSIONS.split(", "):
            raise AddressError(f"its target_session_attrs is none of {_SESSIONS}")
        if self._tls_is_optional and (self.sslrootcert or self.sslcert):
            raise AddressError(
                f"sslrootcert and sslcert need sslmode=require or stricter, not {mode}"
            )
        if self.sslkey and not self.sslcert:
            raise AddressError("sslkey needs sslcert")
        if mode.startswith("verify") and not self.sslrootcert:
            raise AddressError(
                f"sslmode={mode} needs sslrootcert: a file, or system for the system's store"
            )
        if self.sslrootcert == "system" and mode != "verify-full":
            raise AddressError("sslrootcert=system needs sslmode=verify-full")

    @property
    def _tls_is_optional(self) -> bool:
        return self.sslmode in {"disable", "allow", "prefer"}

    def ssl_argument(self) -> ssl.SSLContext | str:
        """Return asyncpg's `ssl` argument; raise `AddressError` for a file that cannot be used."""
        if self._tls_is_optional:
            return self.sslmode
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.sslmode == "verify-full"
        file = self.sslrootcert
        try:
            if file is None:
                context.verify_mode = ssl.CERT_NONE
            elif file == "system":
                context.load_default_certs()
            else:
                context.load_verify_locations(file)
            if file := self.sslcert:
                # An empty password: without it OpenSSL prompts on the terminal for that of the key.
                context.load_cert_chain(file, self.sslkey, password="")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise AddressError(f"{file} cannot be used: {reason}") from error
        return context


def parse(url: str) -> Address:
    """Parse a URL or raise `AddressError`."""
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise AddressError(
            "it is not of the form postgresql://user:password@host:port/name"
            " (one host; write special characters of user and password as %XX)"
        )
    parts = match.groupdict(default="")
    parameters = dict(parse_qsl(parts.pop("query"), keep_blank_values=True))
    if not parameters.keys() <= set(_PARAMETERS.split(", ")):
        # The name is not shown: it may be part of a password with an unescaped question mark.
        raise AddressError(f"it has a parameter that is none of {_PARAMETERS}")
    for name in _LEFT_OUT:
        parameters.pop(name, None)
    options = parameters.pop("options", "")
    if not re.fullmatch(f"(?:{_OPTION})*", options):
        raise AddressError("its options are not of the form -c name=value")
    parameters.setdefault("sslmode", parameters.pop("ssl", ""))
    parameters.update({name: unquote(part) for name, part in parts.items() if part})
    given: dict[str, Any] = {name: value for name, value in parameters.items() if value}
    if "host" in given:
        given["host"] = given["host"].strip("[]")
    port = given.pop("port", "5432")
    if not port.isdecimal() or not 1 <= int(port) <= _HIGHEST_PORT:
        raise AddressError("its port is not a number from 1 to 65535")
    given["options"] = {
        name.replace("-", "_"): re.sub(r"\\(.)", r"\1", value)
        for name, value in re.findall(_OPTION, options)
    }
    return Address(port=int(port), **given)
