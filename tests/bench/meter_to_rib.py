"""From the death of the last daemon to its route gone from the router's table, with `popctl meter` on the backend."""

from __future__ import annotations

import argparse
import json
import signal

from popctl.model.load import LoadSample
from popctl.model.meter import DaemonStarted
from popctl.wire.errors import WireError
from popctl.wire.journal import TurnLine, decode
from tests.bench.__main__ import Figure
from tests.bench.harness import Rig, median, pop, send, spread
from tests.eventually import eventually

COMMAND = "python -m tests.bench meter_to_rib"
TRIES = 20
BOUND_S = 0.020
_INTERVAL_S = 1.2
_PATIENCE_S = 30.0


def killed(rig: Rig, tries: int) -> list[float]:
    """Kill charon of the last backend; start it again for the next try."""
    took_s = []
    for number in range(tries):
        rig.until_announced()
        eventually(lambda number=number: _told(rig, number), within_s=_PATIENCE_S)
        rig.wait_within(_INTERVAL_S)
        took_s.append(rig.gone_after(send(rig.charon, signal.SIGKILL), within_s=_PATIENCE_S))
        rig.charon.kill()
        rig.charon.start()
        rig.meters[0].name_charon()
    return took_s


def _told(rig: Rig, starts: int) -> bool:
    """Whether the agent has heard of the meter, and of so many starts of the daemon after a death."""
    found = [event for event in _events(rig) if isinstance(event, DaemonStarted | LoadSample)]
    return bool(found) and sum(isinstance(event, DaemonStarted) for event in found) >= starts


def _events(rig: Rig) -> list[object]:
    """All that the agent's journal holds."""
    found: list[object] = []
    for text in (rig.agent.directory / "journal.jsonl").read_text().splitlines():
        try:
            line = decode(text)
        except WireError:
            continue
        if isinstance(line, TurnLine):
            found.extend(line.events)
    return found


def measure(tries: int = TRIES) -> list[Figure]:
    """Return one row per figure."""
    with pop(metered=True) as rig:
        took_s = killed(rig, tries)
    name = "last daemon killed, meter running, route gone"
    return [
        _row(f"{name}, median", median(took_s), BOUND_S, spread(took_s)),
        _row(f"{name}, worst", max(took_s), None, spread(took_s)),
    ]


def _row(name: str, value: float, bound: float | None, note: str) -> Figure:
    ok = bound is None or value <= bound
    return {"name": name, "value": value, "unit": "s", "bound": bound, "ok": ok, "command": COMMAND, "note": note}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=TRIES)
    for row in measure(parser.parse_args().tries):
        print(json.dumps(row))
