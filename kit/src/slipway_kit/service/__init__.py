"""Assembles a service: settings, resources, phases of start and shutdown, command line."""

from slipway_kit.http.probes import Check
from slipway_kit.runtime import Runtime, runtime_of
from slipway_kit.service import resources
from slipway_kit.service.assembly import assemble
from slipway_kit.service.features import import_models
from slipway_kit.service.resources import Resources, ResourcesDep
from slipway_kit.service.settings import ServiceSettings

__all__ = [
    "Check",
    "Resources",
    "ResourcesDep",
    "Runtime",
    "ServiceSettings",
    "assemble",
    "import_models",
    "resources",
    "runtime_of",
]
