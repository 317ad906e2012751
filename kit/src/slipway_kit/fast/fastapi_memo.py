"""What FastAPI finds out again and again, found out once.

For every parameter of every request it looks through the annotation anew: is it a sequence, a
model, JSON text, and under which names may it come. The answers of a field never change. Neither
do those about a dependency: is it a generator or a coroutine, and does it ask for scopes. A route
of an included router is looked for twice, once to see whether it is there. And at every step it
looks whether its own telemetry watches the request, when that has never watched any. Together that
is a fifth of a small request, more where there are many routes. FastAPI has no public place for a
memory: `enable` puts one before the functions that it asks.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from types import FunctionType
from typing import Any

from fastapi import routing
from fastapi.dependencies import utils
from fastapi.telemetry import _asgi as telemetry
from starlette.types import Scope

from slipway_kit.fast import guard

# Functions of `utils` about fields, about annotations, about calls and about dependencies.
_ABOUT_FIELDS = ("_get_param_aliases", "_get_param_model", "_is_json_field")
_ABOUT_ANNOTATION = "field_annotation_is_sequence"
_ABOUT_CALLS = ("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable")
_ABOUT_DEPENDENCY = "_get_cache_key"
_KNOWN = frozenset({"fd4b4c327c7789ae"})
# A service has fewer; dependencies that a test overrides have new fields at each request.
_MOST_KEPT = 4096
# In the scope of a request: which router was asked, for what, and what it found.
_FOUND = "slipway_kit.found_route"
_NOTHING: tuple[Any, ...] = (None, None, ())
_UNKNOWN = (None, None)
_NOTHING_WATCHED = nullcontext()
# What was replaced: owner, name and function, the last one last.
_originals: list[tuple[Any, str, Any]] = []
_Search = Callable[[Any, Scope], tuple[Any, ...]]


def supported() -> bool:
    """Tell whether FastAPI finds these things out as it did."""
    return bool(_originals) or guard.is_known(_parts, _KNOWN)


def enable() -> None:
    """Have FastAPI find out once, in this process."""
    if _originals:
        return
    for name in _ABOUT_FIELDS:
        _replace(utils, name, lru_cache(_MOST_KEPT)(getattr(utils, name)))
    _replace(utils, _ABOUT_ANNOTATION, _of_what_can_be_kept(getattr(utils, _ABOUT_ANNOTATION)))
    for name in _ABOUT_CALLS:
        known = _of_functions(getattr(utils, name))
        for module in (utils, routing):
            _replace(module, name, known)
    _replace(utils, _ABOUT_DEPENDENCY, _of_dependencies(getattr(utils, _ABOUT_DEPENDENCY)))
    included = routing._IncludedRouter  # noqa: SLF001 (see above)
    _replace(included, "_match", _for_its_request(included._match))  # noqa: SLF001 (the same)
    _watch_nothing_before_the_first()


def disable() -> None:
    """Have FastAPI find out anew each time."""
    while _originals:
        setattr(*_originals.pop())


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    _originals.append((owner, name, getattr(owner, name)))
    setattr(owner, name, function)


def _parts() -> Iterable[Callable[..., Any]]:
    included: Any = routing._IncludedRouter  # noqa: SLF001 (see above)
    names = (*_ABOUT_FIELDS, _ABOUT_ANNOTATION, *_ABOUT_CALLS, _ABOUT_DEPENDENCY)
    return [
        *(getattr(utils, name) for name in names),
        *(getattr(routing, name) for name in _ABOUT_CALLS),
        *(included._match, included._handle_selected),  # noqa: SLF001 (see above)
        *(getattr(routing, name) for name in ("_operation", "get_telemetry_data")),
        telemetry.NativeTelemetry.__call__,
    ]


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

    _replace(routing, "_operation", no_operation)
    _replace(routing, "get_telemetry_data", no_data)
    _replace(telemetry.NativeTelemetry, "__call__", watch)
