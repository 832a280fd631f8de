"""How long does a router keep the route of a PoP that has lost its last backend, or its agent?"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator

from tests.bench.__main__ import Figure
from tests.bench.harness import Rig, median, pop, send, spread

COMMAND = "python -m tests.bench failover"
TRIES = 20
AGENT_TRIES = 5
LEASE_S = 3.0
INTERVAL_S = {"default": 1.2, "fast": 0.12}
KILLED_BOUND_S = {"default": 0.6, "fast": 0.1}
HUNG_BOUND_S = {"default": 3.0, "fast": 0.5}
_PATIENCE_S = 30.0
_REFUSALS_SAVED_S = 2.0
"""A Linux host tells one peer of closed ports once a second, six times at once when it was quiet for long (icmp(7),
`icmp_ratelimit`). One that was down a moment ago has used that up, and its next death would look like silence."""


def killed(rig: Rig, tries: int, interval_s: float) -> list[float]:
    """Kill charon of the last backend; start it again for the next try."""
    took_s = []
    for _ in range(tries):
        rig.until_announced()
        time.sleep(_REFUSALS_SAVED_S)
        rig.wait_within(interval_s)
        took_s.append(rig.gone_after(send(rig.charon, signal.SIGKILL), within_s=_PATIENCE_S))
        rig.charon.kill()
        rig.charon.start()
    return took_s


def hung(rig: Rig, tries: int, interval_s: float) -> list[float]:
    """Stop charon of the last backend; its socket stays open and nothing answers."""
    took_s = []
    for _ in range(tries):
        rig.until_announced()
        rig.wait_within(interval_s)
        took_s.append(rig.gone_after(send(rig.charon, signal.SIGSTOP), within_s=_PATIENCE_S))
        rig.charon.cont()
    return took_s


def agent_lost(rig: Rig, number: signal.Signals, tries: int) -> list[float]:
    """Kill or stop the agent; then bring it back."""
    took_s = []
    for _ in range(tries):
        rig.until_announced()
        rig.wait_within(LEASE_S / 3)
        took_s.append(rig.gone_after(send(rig.agent, number), within_s=_PATIENCE_S))
        rig.agent.kill()
        rig.agent.start()
    return took_s


def restart_updates(rig: Rig, tries: int) -> dict[str, int]:
    """Replace the agent (SIGHUP), and kill and start it within the lease: what does the router hear?"""
    rig.until_announced()
    before = rig.updates()
    for _ in range(tries):
        _announced_anew(rig, send(rig.agent, signal.SIGHUP))
    after_reload = rig.updates()
    for _ in range(tries):
        _announced_anew(rig, lambda: (rig.agent.kill(), rig.agent.start()))
    return {"SIGHUP": after_reload - before, "SIGKILL and start": rig.updates() - after_reload}


def _announced_anew(rig: Rig, do) -> None:  # noqa: ANN001 - called for its effect
    """Restart the agent, and look for longer than the lease: a route that only waits to be withdrawn must show."""
    assert rig.stays(do, for_s=LEASE_S + 2.0), "the route went"


def _row(name: str, value: float, unit: str, bound: float | None, note: str) -> Figure:
    ok = bound is None or value <= bound
    return {"name": name, "value": value, "unit": unit, "bound": bound, "ok": ok, "command": COMMAND, "note": note}


def of_backends(profile: str, tries: int) -> Iterator[Figure]:
    """Measure what happens to the last backend."""
    with pop(profile=profile) as rig:
        took_s = killed(rig, tries, INTERVAL_S[profile])
        name = f"last daemon killed, route gone, {profile}"
        yield _row(f"{name}, median", median(took_s), "s", KILLED_BOUND_S[profile], spread(took_s))
        yield _row(f"{name}, worst", max(took_s), "s", None, spread(took_s))
        took_s = hung(rig, tries, INTERVAL_S[profile])
        name = f"last daemon hung, route gone, {profile}"
        yield _row(f"{name}, worst", max(took_s), "s", HUNG_BOUND_S[profile], spread(took_s))
        yield _row(f"{name}, median", median(took_s), "s", None, spread(took_s))


def of_agent(tries: int) -> Iterator[Figure]:
    """Measure what happens to the agent."""
    with pop(profile="fast") as rig:
        for way, updates in restart_updates(rig, max(1, tries // 2)).items():
            yield _row(f"agent restart ({way}), UPDATEs at the router", updates, "", 0.0, f"lease {LEASE_S} s")
        for number, word in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
            took_s = agent_lost(rig, number, tries)
            yield _row(f"agent {word}, routes gone, worst", max(took_s), "s", LEASE_S + 1.0, spread(took_s))


def measure(tries: int = TRIES, agent_tries: int = AGENT_TRIES) -> list[Figure]:
    """Return one row per figure."""
    rows = [*of_backends("default", tries), *of_backends("fast", tries), *of_agent(agent_tries)]
    for row in rows:
        print(f"     {row['name']}: {row.get('note', '')}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--agent-tries", type=int, default=AGENT_TRIES)
    options = parser.parse_args()
    for row in measure(options.tries, options.agent_tries):
        print("ok  " if row["ok"] else "MISS", row["name"], round(row["value"], 4), row["unit"], row["bound"])
