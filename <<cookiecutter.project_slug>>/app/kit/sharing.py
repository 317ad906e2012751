"""Work that several callers wait for: it belongs to none of their requests."""

import asyncio
import contextvars
import copy
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")


def start_shared(work: Coroutine[Any, Any, T], *, name: str, **labels: str) -> asyncio.Task[T]:
    """Start `work` without the context of its caller; its log lines carry `labels` instead.

    The request id, trace and deadline of the first of many callers would mislead: the others wait
    for the same work, and it goes on when the first one leaves.
    """
    context = contextvars.Context()
    context.run(structlog.contextvars.bind_contextvars, **labels)
    return asyncio.create_task(work, name=name, context=context)


def own_error(error: Exception) -> Exception:
    """Return an error like `error` for one of several that it is raised for.

    Each extends the traceback of its own one. An error that cannot be copied is shared.
    """
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 (whatever the class of a foreign error makes of a copy)
        return error
    if type(own) is not type(error):
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)
