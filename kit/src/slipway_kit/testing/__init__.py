"""What the tests of a service use: fixtures, doubles, ready-made checks.

The fixtures are those of `slipway_kit.testing.plugin`, which a `tests/conftest.py` names.
"""

from slipway_kit.testing import asgi, checks
from slipway_kit.testing.parts import ServiceParts
from slipway_kit.testing.upstream import Upstream, open_upstream
from slipway_kit.testing.waiting import eventually, soon

__all__ = ["ServiceParts", "Upstream", "asgi", "checks", "eventually", "open_upstream", "soon"]
