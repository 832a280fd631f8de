"""Replay: run a journal through the same World and core again and compare every decision.

Nothing is probed, announced or written. A difference means that the code that decides has changed since, or that the
file was altered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from popctl.agent.journal import event_of
from popctl.agent.world import World
from popctl.model.instant import NEVER, Instant
from popctl.model.pop import Pop
from popctl.wire.errors import WireError
from popctl.wire.journal import DecisionRecord, StartLine, TurnLine, decode


class ReplayError(Exception):
    """The journal cannot be replayed: the line says where, the problem why."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One turn that decided something, then or now."""

    line: int
    at: Instant
    recorded: DecisionRecord | None
    decided: DecisionRecord | None

    @property
    def identical(self) -> bool:
        """Then and now agree, also about whether there was anything to decide."""
        return self.recorded == self.decided


def replay(lines: Iterable[str], parse: Callable[[StartLine], Pop]) -> Iterator[Replayed]:
    """Yield every turn with a decision. `parse` turns the configuration of a start line into a `Pop`.

    A last line without its newline was being written when the agent ended; it is left out.

    Raises:
        ReplayError: a line is not readable, or comes before any start line.
    """
    world: World | None = None
    for number, text in enumerate(lines, start=1):
        if not text.endswith("\n"):
            return
        try:
            line = decode(text)
        except WireError as error:
            raise ReplayError(number, str(error)) from error
        match line:
            case StartLine():
                world = World(parse(line))
                world.restore(line.view, NEVER if line.wake_at is None else line.wake_at)
            case TurnLine():
                if world is None:
                    raise ReplayError(number, "a turn before any start line; give the whole file")
                turn = _turn(world, number, line)
                if turn is not None:
                    yield turn


def _turn(world: World, number: int, line: TurnLine) -> Replayed | None:
    changed = False
    for record in line.events:
        changed |= world.fold(event_of(record), line.at)
    decided = None
    if changed or line.at >= world.wake_at:
        decision = world.decide(line.at)
        decided = DecisionRecord.of(decision.desired, decision.wake_at)
    if decided is None and line.decision is None:
        return None
    return Replayed(line=number, at=line.at, recorded=line.decision, decided=decided)
