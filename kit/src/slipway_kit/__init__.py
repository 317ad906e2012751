"""What a Slipway service stands on."""

__version__ = "0.2.0.dev0"
