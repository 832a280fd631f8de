"""What a sound configuration breaks all the same: told wherever it is read, and never refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.config.errors import Problem
from popctl.core import balance

if TYPE_CHECKING:
    from popctl.model.pop import Pop


def lint(pop: Pop) -> tuple[Problem, ...]:
    """Return what operators should know that they chose."""
    return tuple(
        Problem(path=one.key, found=service.key.value, problem=one.text, remedy=one.remedy)
        for service in (pop.tables.services if pop.tables else ())
        for one in balance.warnings(service)
    )
