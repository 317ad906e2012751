"""Caches what FastAPI computes again for every request, though the result never changes.

That is: the kind of each parameter (sequence, model, JSON, aliases), the kind and the cache key of
each dependency, the match of an included router, which is searched twice, and whether FastAPI's own
telemetry is in use. Together this takes a tenth of the time of a small request, more with many
routes. FastAPI has no public hook, so `enable` replaces the functions by cached ones.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from typing import Any

from fastapi import routing
from fastapi.dependencies import utils
from fastapi.telemetry import _asgi as telemetry
from starlette.types import Scope

from slipway_kit.fast.guard import FastPath

# Functions of `utils`, by what their argument is.
_FIELD_FUNCTIONS = ("_get_param_aliases", "_get_param_model", "_is_json_field")
_ANNOTATION_FUNCTION = "field_annotation_is_sequence"
_CALL_FUNCTIONS = ("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable")
_DEPENDENCY_FUNCTION = "_get_cache_key"
# A service needs fewer entries; overridden dependencies have new fields for each request.
_MAX_CACHED = 4096
# In the scope of a request: the router that was searched, the path, and the match.
_MATCH_KEY = "slipway_kit.found_route"
_NOTHING = (object(), None)
_NO_MATCH: tuple[Any, ...] = (None, None, ())
_NO_OPERATION = nullcontext()
_Search = Callable[[Any, Scope], tuple[Any, ...]]


def _parts() -> Iterable[Callable[..., Any]]:
    included: Any = routing._IncludedRouter
    names = (*_FIELD_FUNCTIONS, _ANNOTATION_FUNCTION, *_CALL_FUNCTIONS, _DEPENDENCY_FUNCTION)
    return [
        *(getattr(utils, name) for name in names),
        *(included._match, included._handle_selected),
        *(getattr(routing, name) for name in ("_operation", "get_telemetry_data")),
        telemetry.NativeTelemetry.__call__,
    ]


_path = FastPath(_parts, "2b87eea444bb858f")
supported, disable = _path.supported, _path.disable


def enable() -> None:
    """Replace the functions, in this process."""
    # The digest is that of the functions below earlier caches.
    disable()
    for name in _FIELD_FUNCTIONS:
        _path.replace(utils, name, lru_cache(_MAX_CACHED)(getattr(utils, name)))
    is_sequence = getattr(utils, _ANNOTATION_FUNCTION)
    _path.replace(utils, _ANNOTATION_FUNCTION, _memoize_hashable(is_sequence))
    for name in _CALL_FUNCTIONS:
        known = _memoize_identity(getattr(utils, name))
        for module in (utils, routing):
            _path.replace(module, name, known)
    _path.replace(utils, _DEPENDENCY_FUNCTION, _memoize_keys(getattr(utils, _DEPENDENCY_FUNCTION)))
    included: Any = routing._IncludedRouter
    _path.replace(included, "_match", _memoize_match(included._match))
    _skip_unused_telemetry()


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


def _memoize_identity(ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Cache the answer for each object, for different ones may compare equal."""
    known: dict[int, tuple[Any, Any]] = {}

    @wraps(ask)
    def answer(subject: Any) -> Any:
        found, result = known.get(id(subject), _NOTHING)
        if found is not subject:
            if len(known) >= _MAX_CACHED:
                known.clear()
            result = ask(subject)
            # The reference keeps another object from getting the same id.
            known[id(subject)] = (subject, result)
        return result

    return answer


def _memoize_keys(ask: Callable[..., Any]) -> Callable[..., Any]:
    known = _memoize_identity(lambda dependant: ask(dependant=dependant))

    @wraps(ask)
    def answer(*, dependant: Any, uses_scopes_cache: Any = None) -> Any:
        del uses_scopes_cache  # in which FastAPI looks up the same
        return known(dependant)

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

    _path.replace(routing, "_operation", no_operation)
    _path.replace(routing, "get_telemetry_data", no_data)
    _path.replace(telemetry.NativeTelemetry, "__call__", watch)
