"""Settings from the environment, and the limits of the container."""
