"""Checks that the private functions which a fast path relies on are unchanged.

Each fast path lists the digests of the source that it was written for, and is off under any other.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

_DIGITS = 16


def digest(parts: Iterable[Callable[..., Any]]) -> str:
    """Return one digest of the source of functions, the same under every Python version.

    Raises `AttributeError` for anything but a Python function, and `OSError` without source files.
    """
    whole = hashlib.sha256()
    for part in parts:
        whole.update(_source(part.__code__))
    return whole.hexdigest()[:_DIGITS]


def is_known(parts: Callable[[], Iterable[Callable[..., Any]]], known: frozenset[str]) -> bool:
    """Whether all `parts` exist and their digest is known."""
    try:
        return digest(parts()) in known
    except (AttributeError, OSError):
        return False


def _source(code: CodeType) -> bytes:
    # `inspect.getsource` parses whole modules, which costs 0.15 s at start (measured).
    first, last = code.co_firstlineno, max(_lines(code))
    return b"\n".join(_module(code.co_filename)[first - 1 : last])


def _lines(code: CodeType) -> Iterator[int]:
    yield code.co_firstlineno
    for _, end, _, _ in code.co_positions():
        yield end or 0
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _lines(inner)


@lru_cache(maxsize=4)
def _module(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines()
