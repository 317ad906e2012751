"""The library as this service has it: unedited, and supported by the versions that are locked."""

from slipway_kit import verify
from slipway_kit.server import protocol


def kit() -> list[str]:
    """Return what is wrong with the library's files, and which private parts it does not know."""
    unknown = "uvicorn is of another version than slipway_kit.server.protocol knows: pin it back"
    return verify.problems() + ([] if protocol.supported() else [unknown])
