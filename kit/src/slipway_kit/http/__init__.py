"""What an HTTP request meets: observation, limits, problems, OpenAPI, probes and streams."""
