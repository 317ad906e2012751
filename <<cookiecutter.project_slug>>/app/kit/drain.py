"""Whether this worker is leaving: it answers what it has and asks clients to go elsewhere."""


class Drain:
    """One per app; the worker process begins it, probes and responses look at it."""

    def __init__(self) -> None:
        self.draining = False

    def begin(self) -> None:
        """Fail readiness and close each connection with its next answer, from now on."""
        self.draining = True
