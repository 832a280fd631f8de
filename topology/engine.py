"""Which engine runs a propagation: numba where it is installed, numpy everywhere. They agree bit for bit."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

from topology.numpy_engine import NumpyEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from topology.flat import FlatGraph, Longs, Shorts
    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]


class NoEngineError(LookupError):
    """There is no engine of that name, or it is not installed."""


class Engine(Protocol):
    """Runs scenarios on a compiled graph."""

    @property
    def name(self) -> str:
        """What the engine is called in output and options."""

    def propagate(self, graph: FlatGraph, seeds: Seeds) -> tuple[Longs, Flags]:
        """Return the best key of every node (`topology.keys`), and which nodes' action communities bind."""

    def batch(self, graph: FlatGraph, scenarios: Sequence[Seeds]) -> Longs:
        """Return the best keys of many scenarios, one column each: a matrix to analyse, no faster than one by one."""

    def spread(self, graph: FlatGraph, seeds: Seeds, best: Longs, bound: Flags) -> Shorts:
        """Return the spread row of every node (`topology.attach.Preference.row`): which PoPs stay tied."""

    def update(
        self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, spread: Shorts
    ) -> tuple[Longs, Shorts]:
        """Return the keys and spread rows for seeds that differ at `changed` from those of `before` and `spread`.

        Only for seeds without action communities, before and after.
        """


def has_numba() -> bool:
    """Tell whether the compiled engine can be used."""
    return importlib.util.find_spec("numba") is not None


def engine_named(name: str = "auto") -> Engine:
    """Return an engine: `numpy`, `numba`, or `auto` for the fastest there is.

    Raises:
        NoEngineError: there is no such engine, or numba is not installed.
    """
    if name == "numpy" or (name == "auto" and not has_numba()):
        return NumpyEngine()
    if name in {"numba", "auto"} and has_numba():
        from topology.numba_engine import NumbaEngine  # noqa: PLC0415 - numba takes a second to import

        return NumbaEngine()
    raise NoEngineError("numba is not installed: popctl[fast]" if name == "numba" else f"no engine {name!r}")
