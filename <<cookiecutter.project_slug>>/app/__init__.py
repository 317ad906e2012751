"""The service: `main` assembles it from `features` and the library `slipway_kit`."""
