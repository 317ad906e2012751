"""What FastAPI finds out again and again, found out once.

For every parameter of every request it looks through the annotation anew: is it a sequence, a
model, JSON text, and under which names may it come. The answers of a field never change. Neither
do those about a dependency: is it a generator or a coroutine, and does it ask for scopes. A route
of an included router is looked for twice, once to see whether it is there. And at every step it
looks whether its own telemetry watches the request, when that has never watched any. Together that
is a fifth of a small request, more where there are many routes. FastAPI has no public place for a
memory: `remember` puts one before the functions that it asks, when they are those that this was
written for.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from types import FunctionType
from typing import Any

from fastapi import routing
from fastapi.dependencies import utils
from fastapi.telemetry import _asgi as telemetry
from starlette.types import Scope

# Functions of `utils` and their parameters.
_ABOUT_FIELDS = {
    "_get_param_aliases": ["field", "convert_underscores"],
    "_get_param_model": ["field"],
    "_is_json_field": ["field"],
}
_ABOUT_ANNOTATIONS = {"field_annotation_is_sequence": ["annotation"]}
_ABOUT_CALLS = {
    "_is_gen_callable": ["call"],
    "_is_async_gen_callable": ["call"],
    "_is_coroutine_callable": ["call"],
}
_ABOUT_DEPENDENCIES = {"_get_cache_key": ["dependant", "uses_scopes_cache"]}
# A service has fewer; dependencies that a test overrides have new fields at each request.
_MOST_KEPT = 4096
# In the scope of a request: which router was asked, for what, and what it found.
_FOUND = "found_once.route"
_NOTHING: tuple[Any, ...] = (None, None, ())
_UNKNOWN = (None, None)
_NOTHING_WATCHED = nullcontext()
_Search = Callable[[Any, Scope], tuple[Any, ...]]


def remember() -> bool:
    """Have FastAPI find out once, in this process; tell whether it does so as expected."""
    if not _supported():
        return False
    for name in _ABOUT_FIELDS:
        setattr(utils, name, lru_cache(_MOST_KEPT)(_original(utils, name)))
    for name in _ABOUT_ANNOTATIONS:
        setattr(utils, name, _of_what_can_be_kept(_original(utils, name)))
    for name in _ABOUT_CALLS:
        known = _of_functions(_original(utils, name))
        for module in (utils, routing):
            setattr(module, name, known)
    for name in _ABOUT_DEPENDENCIES:
        setattr(utils, name, _of_dependencies(_original(utils, name)))
    included = routing._IncludedRouter  # noqa: SLF001 (see above)
    setattr(included, "_match", _for_its_request(_original(included, "_match")))  # noqa: B010
    _watch_nothing_before_the_first()
    return True


def _supported() -> bool:
    asked = _ABOUT_FIELDS | _ABOUT_ANNOTATIONS | _ABOUT_CALLS | _ABOUT_DEPENDENCIES
    included = getattr(routing, "_IncludedRouter", None)
    return (
        all(_takes(utils, name, parameters) for name, parameters in asked.items())
        and all(_takes(routing, name, parameters) for name, parameters in _ABOUT_CALLS.items())
        and _takes(included, "_match", ["self", "scope"])
        and _takes(included, "_handle_selected", ["self", "scope", "receive", "send"])
        and _takes(routing, "_operation", ["name", "function"])
        and _takes(routing, "get_telemetry_data", ["context"])
        and hasattr(telemetry, "NativeTelemetry")
    )


def _takes(owner: Any, name: str, parameters: list[str]) -> bool:
    if not hasattr(owner, name):
        return False
    return list(inspect.signature(_original(owner, name)).parameters) == parameters


def _original(owner: Any, name: str) -> Callable[..., Any]:
    """Return FastAPI's own function, also when there is a memory before it already."""
    found: Callable[..., Any] = inspect.unwrap(getattr(owner, name))
    return found


def _of_what_can_be_kept(function: Callable[[object], bool]) -> Callable[[object], bool]:
    known = lru_cache(_MOST_KEPT)(function)

    @wraps(function)
    def answer(annotation: object) -> bool:
        try:
            return known(annotation)
        except TypeError:
            # One with a dictionary in it, say, cannot be looked up.
            return function(annotation)

    return answer


def _of_functions(ask: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return what remembers the answers for plain functions, of which none equals another."""
    known = lru_cache(_MOST_KEPT)(ask)

    @wraps(ask)
    def answer(call: Any) -> bool:
        return known(call) if type(call) is FunctionType else ask(call)

    return answer


def _of_dependencies(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return what remembers by which key a dependency is known within a request."""
    known: dict[int, tuple[Any, Any]] = {}

    @wraps(ask)
    def answer(*, dependant: Any, uses_scopes_cache: Any = None) -> Any:
        found, key = known.get(id(dependant), _UNKNOWN)
        if found is not dependant:
            if len(known) >= _MOST_KEPT:
                known.clear()
            key = ask(dependant=dependant, uses_scopes_cache=uses_scopes_cache)
            # It is kept, so that no other one gets its id.
            known[id(dependant)] = (dependant, key)
        return key

    return answer


def _for_its_request(search: _Search) -> _Search:
    """Return a search that leaves what it found to the next one of the same router and path."""

    @wraps(search)
    def find(self: Any, scope: Scope) -> tuple[Any, ...]:
        where = (scope["path"], scope.get("root_path"))
        found: tuple[Any, ...]
        router, there, found = scope.pop(_FOUND, _NOTHING)
        if router is not self or there != where:
            found = search(self, scope)
            scope[_FOUND] = (self, where, found)
        return found

    return find


def _watch_nothing_before_the_first() -> None:
    """Have a step of a request ask for FastAPI's telemetry only once that has watched one."""
    watching = telemetry.NativeTelemetry.__call__
    if hasattr(watching, "__wrapped__"):
        return
    operation, data = (getattr(routing, name) for name in ("_operation", "get_telemetry_data"))
    watched = False

    @wraps(operation)
    def no_operation(**about: Any) -> AbstractContextManager[None]:
        return operation(**about) if watched else _NOTHING_WATCHED

    @wraps(data)
    def no_data(context: Any = None) -> Any:
        return data(context) if watched else None

    @wraps(watching)
    def watch(self: Any, **request: Any) -> Any:
        nonlocal watched
        watched = True
        return watching(self, **request)

    setattr(routing, "_operation", no_operation)  # noqa: B010
    setattr(routing, "get_telemetry_data", no_data)  # noqa: B010
    setattr(telemetry.NativeTelemetry, "__call__", watch)  # noqa: B010
