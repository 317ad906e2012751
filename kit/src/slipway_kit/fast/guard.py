"""What fast paths share: a check of the private code that they rely on, and a way back.

Each fast path lists the digests of the source that it was written for, and is off under any other.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from inspect import unwrap
from pathlib import Path
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

_DIGITS = 16
_ABSENT = object()


class FastPath:
    """Replaces attributes of modules, classes and objects, and restores them.

    It is supported while the digest of its parts, which are Python functions, is one of `known`.
    """

    def __init__(
        self, parts: Callable[[], Iterable[Callable[..., Any]]] = tuple, *known: str
    ) -> None:
        self.parts, self.known = parts, known
        # The attributes of an object that dies need no way back.
        self._originals: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    def supported(self) -> bool:
        """Whether all parts exist and their digest is known."""
        try:
            return digest(self.parts()) in self.known
        except (AttributeError, OSError):
            return False

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Set an attribute."""
        originals = self._originals.setdefault(owner, {})
        originals.setdefault(name, vars(owner).get(name, _ABSENT))
        setattr(owner, name, replacement)

    def disable(self) -> None:
        """Restore what was replaced."""
        for owner, originals in self._originals.items():
            for name, original in originals.items():
                if original is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)
        self._originals.clear()


def digest(parts: Iterable[Callable[..., Any]]) -> str:
    """Return one digest of the source of functions, the same under every Python version.

    Raises `AttributeError` for anything but a Python function, and `OSError` without source files.
    """
    whole = hashlib.sha256()
    for part in parts:
        # Also of a function that this fast path has replaced by a wrapper.
        whole.update(_source(unwrap(part).__code__))
    return whole.hexdigest()[:_DIGITS]


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
