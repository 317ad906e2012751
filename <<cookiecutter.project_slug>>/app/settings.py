"""Every setting of the service; `python -m app settings` prints them.

The settings of a feature are in its module `settings`; a group that belongs to no feature becomes a
field here.
"""

from app.enabled import FEATURES
from slipway_kit.service import ServiceSettings


class Settings(ServiceSettings):
    """The whole configuration, frozen."""

    enabled = FEATURES
