"""Caches what FastAPI computes again for every request, though the result never changes.

That is: the kind of each parameter (sequence, model, JSON, aliases), the kind and the cache key of
each dependency, the match of an included router, which is searched twice, and whether FastAPI's own
telemetry is in use. Together this takes a fifth of the time of a small request, more with many
routes. FastAPI has no public hook, so `enable` replaces the functions by cached ones.
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

# Functions of `utils`, by what their argument is.
_FIELD_FUNCTIONS = ("_get_param_aliases", "_get_param_model", "_is_json_field")
_ANNOTATION_FUNCTION = "field_annotation_is_sequence"
_CALL_FUNCTIONS = ("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable")
_DEPENDENCY_FUNCTION = "_get_cache_key"
_KNOWN = frozenset({"fd4b4c327c7789ae"})
# A service needs fewer entries; overridden dependencies have new fields for each request.
_MAX_CACHED = 4096
# In the scope of a request: the router that was searched, the path, and the match.
_MATCH_KEY = "slipway_kit.found_route"
_NO_MATCH: tuple[Any, ...] = (None, None, ())
_NO_KEY = (None, None)
_NO_OPERATION = nullcontext()
# The replaced functions: owner, name and function, in order of replacement.
_originals: list[tuple[Any, str, Any]] = []
_Search = Callable[[Any, Scope], tuple[Any, ...]]


def supported() -> bool:
    """Whether the source of the replaced functions is known."""
    return bool(_originals) or guard.is_known(_parts, _KNOWN)


def enable() -> None:
    """Replace the functions, in this process."""
    if _originals:
        return
    for name in _FIELD_FUNCTIONS:
        _replace(utils, name, lru_cache(_MAX_CACHED)(getattr(utils, name)))
    _replace(utils, _ANNOTATION_FUNCTION, _memoize_hashable(getattr(utils, _ANNOTATION_FUNCTION)))
    for name in _CALL_FUNCTIONS:
        known = _memoize_functions(getattr(utils, name))
        for module in (utils, routing):
            _replace(module, name, known)
    _replace(
        utils, _DEPENDENCY_FUNCTION, _memoize_dependency_keys(getattr(utils, _DEPENDENCY_FUNCTION))
    )
    included = routing._IncludedRouter  # noqa: SLF001 (see above)
    _replace(included, "_match", _memoize_match(included._match))  # noqa: SLF001 (the same)
    _skip_unused_telemetry()


def disable() -> None:
    """Restore FastAPI's own functions."""
    while _originals:
        setattr(*_originals.pop())


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    _originals.append((owner, name, getattr(owner, name)))
    setattr(owner, name, function)


def _parts() -> Iterable[Callable[..., Any]]:
    included: Any = routing._IncludedRouter  # noqa: SLF001 (see above)
    names = (*_FIELD_FUNCTIONS, _ANNOTATION_FUNCTION, *_CALL_FUNCTIONS, _DEPENDENCY_FUNCTION)
    return [
        *(getattr(utils, name) for name in names),
        *(getattr(routing, name) for name in _CALL_FUNCTIONS),
        *(included._match, included._handle_selected),  # noqa: SLF001 (see above)
        *(getattr(routing, name) for name in ("_operation", "get_telemetry_data")),
        telemetry.NativeTelemetry.__call__,
    ]


def _memoize_hashable(function: Callable[[object], bool]) -> Callable[[object], bool]:
    known = lru_cache(_MAX_CACHED)(function)

    @wraps(function)
    def answer(annotation: object) -> bool:
        try:
            return known(annotation)
        except TypeError:
            # Not hashable, such as an annotation that contains a dict.
            return function(annotation)

    return answer


def _memoize_functions(ask: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Cache the results for plain functions; callable objects may compare equal."""
    known = lru_cache(_MAX_CACHED)(ask)

    @wraps(ask)
    def answer(call: Any) -> bool:
        return known(call) if type(call) is FunctionType else ask(call)

    return answer


def _memoize_dependency_keys(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Cache the key of each dependency by its identity."""
    known: dict[int, tuple[Any, Any]] = {}

    @wraps(ask)
    def answer(*, dependant: Any, uses_scopes_cache: Any = None) -> Any:
        found, key = known.get(id(dependant), _NO_KEY)
        if found is not dependant:
            if len(known) >= _MAX_CACHED:
                known.clear()
            key = ask(dependant=dependant, uses_scopes_cache=uses_scopes_cache)
            # The reference keeps another object from getting the same id.
            known[id(dependant)] = (dependant, key)
        return key

    return answer


def _memoize_match(search: _Search) -> _Search:
    """Reuse a match when the same router is searched for the same path again."""

    @wraps(search)
    def find(self: Any, scope: Scope) -> tuple[Any, ...]:
        path = (scope["path"], scope.get("root_path"))
        found: tuple[Any, ...]
        router, matched, found = scope.pop(_MATCH_KEY, _NO_MATCH)
        if router is not self or matched != path:
            found = search(self, scope)
            scope[_MATCH_KEY] = (self, path, found)
        return found

    return find


def _skip_unused_telemetry() -> None:
    """Skip FastAPI's telemetry calls until its middleware has seen a request."""
    watching = telemetry.NativeTelemetry.__call__
    operation, data = (getattr(routing, name) for name in ("_operation", "get_telemetry_data"))
    watched = False

    @wraps(operation)
    def no_operation(**about: Any) -> AbstractContextManager[None]:
        return operation(**about) if watched else _NO_OPERATION

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
