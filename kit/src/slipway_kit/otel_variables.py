"""Puts OTEL_ variables that OpenTelemetry cannot honour right before it reads them.

A platform sets them for every pod, whatever runs in it: they may cost traces, never the service.
OpenTelemetry reads some of them when FastAPI imports it, and raises; so the package `app` imports
this module first. No sentence quotes a value, which may be a secret.
"""

import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from urllib.parse import unquote, urlsplit

Environment = MutableMapping[str, str]
Parse = Callable[[str], str]

_OTLP = "OTEL_EXPORTER_OTLP_"
_EXPORTER = "OTEL_TRACES_EXPORTER"
_QUEUE, _BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
# The SDK's defaults of both.
_QUEUE_SIZE, _BATCH_SIZE = 2048, 512
_DEFAULT = "the default is used"
_NO_PAIRS = "is no list of name=value: the rest is left out"
_NOT_INSTALLED = "names what is not installed: it is left out"
_HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+\s*=[ !#-+\--:<-\[\]-~]*")
_HEADER_DECODED = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+\s*=[ -~\xa0-\xff]*")


def _one_of(*known: str) -> Parse:
    def parse(value: str) -> str:
        if value.lower() not in known:
            raise ValueError(value)
        return value.lower()

    return parse


def _number(kind: type[float], least: float, most: float) -> Parse:
    def parse(value: str) -> str:
        number = kind(value)
        if not least <= number <= most:
            raise ValueError(value)
        return repr(number)

    return parse


def _patterns(value: str) -> str:
    re.compile("|".join(part.strip() for part in value.split(",")))
    return value


def _is_installed(group: str, name: str) -> bool:
    # Takes a while, and few name a plug-in.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return bool(entry_points(group=f"opentelemetry_{group}", name=name))


def _plug_in(group: str) -> Parse:
    def parse(value: str) -> str:
        if not _is_installed(group, value):
            raise ValueError(value)
        return value

    return parse


_SAMPLERS = ("always_on", "always_off", "traceidratio")
_count = _number(int, 0, 2**31 - 1)
_milliseconds = _number(int, 1, 3_600_000)
_spans = _number(int, 1, 100_000), f"is no number of spans from 1 to 100000: {_DEFAULT}"
_boolean = _one_of("true", "false"), f"is neither true nor false: {_DEFAULT}"
_pattern = _patterns, "holds no regular expressions: it is ignored"
_seconds = _number(float, 0.001, 300), f"is no number of seconds up to 300: {_DEFAULT}"
_compression = _one_of("none", "gzip", "deflate"), "is neither gzip nor deflate: it is ignored"
_ours = _one_of(), "is not for this service: it is ignored"

# How each variable is read, and what is said of one that cannot be.
_RULES: dict[str, tuple[Parse, str]] = {
    "OTEL_SDK_DISABLED": _boolean,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _boolean,
    "OTEL_TRACES_SAMPLER": (
        _one_of(*_SAMPLERS, *(f"parentbased_{name}" for name in _SAMPLERS)),
        "names no sampler of the SDK: parentbased_always_on is used",
    ),
    "OTEL_TRACES_SAMPLER_ARG": (_number(float, 0, 1), "is no share from 0 to 1: 1 is used"),
    **dict.fromkeys((f"{_OTLP}TIMEOUT", f"{_OTLP}TRACES_TIMEOUT"), _seconds),
    **dict.fromkeys((f"{_OTLP}COMPRESSION", f"{_OTLP}TRACES_COMPRESSION"), _compression),
    **dict.fromkeys((_QUEUE, _BATCH), _spans),
    **{
        f"OTEL_BSP_{name}": (_milliseconds, f"is no number of ms up to an hour: {_DEFAULT}")
        for name in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT")
    },
    **{
        f"OTEL_{name}_LIMIT": (_count, f"is no whole number from 0 on: {_DEFAULT}")
        for name in (
            *("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH", "SPAN_ATTRIBUTE_COUNT"),
            *("SPAN_ATTRIBUTE_VALUE_LENGTH", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT"),
            *("EVENT_ATTRIBUTE_COUNT", "LINK_ATTRIBUTE_COUNT"),
        )
    },
    **{
        f"OTEL_PYTHON_{name.upper()}": (_plug_in(name), "names nothing installed: it is ignored")
        for name in ("context", "meter_provider", "logger_provider")
    },
    "OTEL_PYTHON_ID_GENERATOR": (_one_of("random"), "is not random: ids are random all the same"),
    "OTEL_PYTHON_TRACER_PROVIDER": _ours,
    "OTEL_PYTHON_TRACER_CONFIGURATOR": _ours,
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": _ours,
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER": _ours,
    "OTEL_CONFIG_FILE": _ours,
    "OTEL_PYTHON_EXCLUDED_URLS": _pattern,
    "OTEL_PYTHON_HTTPX_EXCLUDED_URLS": _pattern,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": _pattern,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE": _pattern,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": (
        _patterns,
        "holds no regular expressions: every header is hidden",
    ),
}
# Where to go on without the variable would show or send more than was asked for.
_INSTEAD = {"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": ".*"}


def _is_header(part: str) -> bool:
    return bool(_HEADER.fullmatch(part) and _HEADER_DECODED.fullmatch(unquote(part)))


def _is_attribute(part: str) -> bool:
    name, equals, _ = part.partition("=")
    return bool(name.strip() and equals)


def _is_propagator(name: str) -> bool:
    return name in {"tracecontext", "baggage"} or _is_installed("propagator", name)


# How each part of a list is read, and what is said of a part that cannot be.
_LISTS: dict[str, tuple[Callable[[str], bool], str]] = {
    _EXPORTER: (lambda name: name == "otlp", "names more than otlp: nothing is sent by that"),
    "OTEL_PROPAGATORS": (_is_propagator, _NOT_INSTALLED),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": (
        lambda name: name == "*" or _is_installed("resource_detector", name),
        _NOT_INSTALLED,
    ),
    "OTEL_RESOURCE_ATTRIBUTES": (_is_attribute, _NO_PAIRS),
    f"{_OTLP}HEADERS": (_is_header, _NO_PAIRS),
    f"{_OTLP}TRACES_HEADERS": (_is_header, _NO_PAIRS),
}


def settle(environment: Environment) -> list[str]:
    """Put the variables right; return a sentence for each wrong one if there would be traces."""
    notes = list(_tidied(environment))
    switched_off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get(_EXPORTER, "").lower() == "none"
    )
    wanted = not switched_off and bool(_of_traces(environment, "ENDPOINT") in environment or notes)
    for name, (parse, complaint) in _RULES.items():
        if name in environment:
            try:
                environment[name] = parse(environment[name])
            except (ValueError, re.error, OverflowError, RecursionError):
                notes.append(f"{name} {complaint}.")
                _replace(environment, name, _INSTEAD.get(name))
    for name, (is_right, complaint) in _LISTS.items():
        parts = [part.strip() for part in environment.get(name, "").split(",") if part.strip()]
        right = [part for part in parts if is_right(part)]
        if "none" in map(str.lower, parts) and name in {_EXPORTER, "OTEL_PROPAGATORS"}:
            environment[name] = "none"
            continue
        if len(right) < len(parts):
            notes.append(f"{name} {complaint}.")
        nothing = "none" if parts and name == _EXPORTER else None
        _replace(environment, name, ",".join(right) or nothing)
    queue = int(environment.get(_QUEUE, _QUEUE_SIZE))
    if int(environment.get(_BATCH, _BATCH_SIZE)) > queue:
        if _BATCH in environment:
            notes.append(f"{_BATCH} is more than the queue holds: batches of that many are sent.")
        environment[_BATCH] = str(queue)
    for problem in _obstacles(environment):
        notes.append(f"{problem}: no traces are sent.")
        environment[_EXPORTER] = "none"
    return notes if wanted else []


def _tidied(environment: Environment) -> Iterator[str]:
    """Remove what is empty, which counts as unset, and what cannot be sent."""
    for name in [name for name in environment if name.startswith("OTEL_")]:
        value = environment[name].strip()
        if value.encode(errors="replace").decode() != value:
            yield f"{name} is not UTF-8: it is ignored."
            value = ""
        _replace(environment, name, value)


def _replace(environment: Environment, name: str, value: str | None) -> None:
    if value:
        environment[name] = value
    else:
        environment.pop(name, None)


def _of_traces(environment: Environment, name: str) -> str:
    """Return the variable that counts: that of traces alone, or that of all signals."""
    own = f"{_OTLP}TRACES_{name}"
    return own if own in environment else f"{_OTLP}{name}"


def _obstacles(environment: Environment) -> Iterator[str]:
    """Yield what keeps spans from being sent where they should, and only there."""
    name_of = partial(_of_traces, environment)
    endpoint, protocol = name_of("ENDPOINT"), name_of("PROTOCOL")
    if endpoint in environment and not _is_url(environment[endpoint]):
        yield f"{endpoint} is no URL like http://collector:4318"
    if environment.get(protocol, "http/protobuf") != "http/protobuf":
        yield f"{protocol} is not http/protobuf, which collectors expect on port 4318"
    authority, certificate = name_of("CERTIFICATE"), name_of("CLIENT_CERTIFICATE")
    if not {authority, certificate} & environment.keys():
        return
    # A large module, which only certificates need.
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if path := environment.get(authority):
            folder = os.path.isdir(path)  # noqa: PTH112 (pathlib is not imported for it)
            context.load_verify_locations(**{"capath" if folder else "cafile": path})
    except (OSError, ValueError):
        yield f"{authority} is no file of certificates that can be read"
    try:
        if path := environment.get(certificate):
            # Nobody is asked for a password.
            context.load_cert_chain(path, environment.get(name_of("CLIENT_KEY")), password="")
    except (OSError, ValueError):
        yield f"{certificate} is no certificate with its key that can be read"


def _is_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        found = url.scheme in {"http", "https"} and url.hostname and url.port != 0
        return bool(found) and not re.search(r"\s", value)
    except ValueError:
        return False


# Logged, and removed, once there is a log.
NOTES = settle(os.environ)
