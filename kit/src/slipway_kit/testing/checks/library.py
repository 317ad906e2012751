"""The library as this service has it: unedited, and supported by the versions that are locked."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType

from slipway_kit.dev import verify
from slipway_kit.server import protocol


def kit() -> list[str]:
    """Return what is wrong with the library's files, and which private parts it does not know.

    A shortcut of `slipway_kit.fast` that is not supported costs speed and nothing else.
    """
    return verify.problems() + [
        f"{module.__name__} does not know the versions that are installed: take the bounds of the"
        " group `kit` in pyproject.toml back, or a newer slipway_kit"
        for module in (protocol, *_shortcuts())
        if not module.supported()
    ]


def _shortcuts() -> Iterator[ModuleType]:
    package = find_spec("slipway_kit.fast")
    folders = (package and package.submodule_search_locations) or []
    for found in iter_modules(folders, "slipway_kit.fast."):
        module = import_module(found.name)
        # One that depends on how logs are written is judged by a real start, see `start`.
        if hasattr(module, "supported") and not hasattr(module, "wanted"):
            yield module
