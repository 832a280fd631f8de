"""Replay: run a journal through the same World and core again and compare every decision.

Nothing is probed, announced or written. A difference means that the code that decides has changed since, or that the
file was altered.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popctl.agent.journal import event_of
from popctl.agent.world import World
from popctl.config.errors import ConfigError
from popctl.config.load import parse as parse_config
from popctl.config.tls_files import look_away
from popctl.model.instant import NEVER, Instant
from popctl.model.pop import Pop
from popctl.wire.errors import WireError
from popctl.wire.journal import DecisionRecord, StartLine, TurnLine, decode

EXIT_UNREADABLE = 65
"""EX_DATAERR: it says nothing about any decision."""


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
        changed |= world.fold(event_of(record, world.view().fleet), line.at)
    decided = None
    if changed or line.at >= world.wake_at:
        decision = world.decide(line.at)
        decided = DecisionRecord.of(decision.desired, decision.wake_at)
    if decided is None and line.decision is None:
        return None
    return Replayed(line=number, at=line.at, recorded=line.decision, decided=decided)


def _parse(line: StartLine) -> Pop:
    """Return the PoP of a start line. Secrets decide nothing, and a journal has none: any text stands in for them."""
    return parse_config(line.config, line.source, read_secret=lambda _: "not-in-the-journal", look=look_away)


def _tell(turn: Replayed, *, as_json: bool) -> None:
    decided = () if turn.decided is None else turn.decided.services
    mark = "same" if turn.identical else "DIFFERENT"
    if as_json:
        rungs = {one.service: [str(one.announce), str(one.reason)] for one in decided}
        print(json.dumps({"line": turn.line, "at": turn.at, "identical": turn.identical, "services": rungs}))  # noqa: T201
        return
    rungs_text = "; ".join(
        f"{one.service}: {one.announce} ({one.reason}), {one.healthy} healthy of {one.needed} needed" for one in decided
    )
    print(f"{turn.at:14.3f}  {mark:<9}  {rungs_text or 'nothing was decided'}")  # noqa: T201 - a command's output


def main(arguments: list[str]) -> int:
    """Replay a file; exit code 1 when any decision differs, `EXIT_UNREADABLE` when the file cannot be replayed."""
    parser = argparse.ArgumentParser(prog="popctl replay", description="Decide a journal again and compare.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, and one for the whole at the end")
    options = parser.parse_args(arguments)
    turns = different = 0
    try:
        with options.file.open(encoding="utf-8") as lines:
            for turn in replay(lines, _parse):
                turns += 1
                different += not turn.identical
                _tell(turn, as_json=options.json)
    except (ReplayError, ConfigError, OSError, UnicodeDecodeError) as error:
        code = EXIT_UNREADABLE
        _end(f"{options.file}: {error}", {"error": f"{options.file}: {error}", "exit": code}, as_json=options.json)
        return code
    counts = {"decisions": turns, "different": different}
    _end(f"{turns} decisions, {different} different", counts, as_json=options.json)
    return 1 if different else 0


def _end(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document))  # noqa: T201 - a command's output
    else:
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
