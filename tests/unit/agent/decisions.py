"""The smallest decision."""

from __future__ import annotations

from popctl.core.decide import Decision
from popctl.model.capacity import CALM
from popctl.model.desired import Desired
from popctl.model.instant import NEVER
from popctl.model.route import route_table

NO_DECISION = Decision(desired=Desired(routes=route_table(), services=()), memory={}, load_state=CALM, wake_at=NEVER)
