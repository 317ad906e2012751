"""The library that a Slipway service is built on."""

__version__ = "0.2.0.dev0"
