"""Settings from the environment, with one sentence for each invalid one."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BeforeValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from slipway_kit.errors import SettingsError

G = TypeVar("G", bound="Group")

# Kubernetes sets such variables for each Service of the namespace.
_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?)$")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


# Marks a tuple that is comma-separated in its variable: `Annotated[tuple[X, ...], *COMMAS]`.
COMMAS = (NoDecode, BeforeValidator(_split))


class Group(BaseSettings):
    """Frozen settings, each from one environment variable; keywords take precedence.

    An empty variable counts as unset. An invalid value raises pydantic's `ValidationError`, without
    the value.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    # Unknown variables with these prefixes are refused; the default is `env_prefix`.
    owned_prefixes: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def prefixes(cls) -> tuple[str, ...]:
        """Return the prefixes that are reserved for this group."""
        if cls.owned_prefixes is not None:
            return cls.owned_prefixes
        return (cls.model_config.get("env_prefix") or "",)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Map each environment variable to its field."""
        prefix = cls.model_config.get("env_prefix") or ""
        return {f"{prefix}{field}".upper(): field for field in cls.model_fields}


def read(group: type[G]) -> G:
    """Read a group from the environment or raise `SettingsError`."""
    try:
        return group()
    except ValidationError as error:
        sentences = [_sentence(group, problem) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(sentences)) from None


def refuse_unknown(environment: Mapping[str, str], groups: Collection[type[Group]]) -> None:
    """Raise `SettingsError` for unknown variables with a reserved prefix."""
    known = {name for group in groups for name in group.variables()}
    ours = tuple(prefix for group in groups for prefix in group.prefixes())
    sentences = [
        f"{name} is no setting of this service; {_hint(name, known)}."
        for name in sorted(environment)
        if name.startswith(ours) and name not in known and not _SERVICE_LINK.match(name)
    ]
    if sentences:
        raise SettingsError("\n".join(sentences))


def _sentence(group: type[Group], problem: Mapping[str, Any]) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    if not problem["loc"]:
        return f"{text}."
    field = str(problem["loc"][0])
    names = {field: name for name, field in group.variables().items()}
    name = names.get(field, field)
    given = problem.get("input")
    kind = group.model_fields[field].annotation if field in group.model_fields else None
    if isinstance(given, str) and SecretStr not in (kind, *get_args(kind)):
        name = f"{name} is {given!r}"
    return f"{name}: {text[0].lower()}{text[1:]}."


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"was {close[0]} meant" if close else "remove it"
