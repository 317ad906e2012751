"""Every setting of the service; `python -m app settings` prints them.

A group lives beside the code that it tunes: those of a feature in its module `settings`. A group
that belongs to no feature becomes a field here.
"""

from app.enabled import FEATURES
from slipway_kit.service import ServiceSettings


class Settings(ServiceSettings):
    """The whole configuration, frozen."""

    enabled = FEATURES
