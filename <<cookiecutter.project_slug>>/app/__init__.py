"""The service: `main` assembles it from `features` and the library `slipway_kit`."""

import slipway_kit.otel_variables  # noqa: F401 (before FastAPI imports OpenTelemetry)
