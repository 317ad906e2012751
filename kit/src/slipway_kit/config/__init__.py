"""Settings from the environment, and the limits of the container."""

from slipway_kit.config.group import COMMAS, Group
from slipway_kit.config.server import ServerSettings

__all__ = [
    "COMMAS",
    "Group",
    "ServerSettings",
]
