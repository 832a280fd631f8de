"""From `popctl plan playbook` to the agent's gate: the lab's two PoPs, its routers as the Internet, a step for load.

The playbook is made by the command and read by the part of the agent that follows the file; world, core and ledger of
both PoPs are the real ones. Users are where the model has them: 60 at PoP 1's upstream, 10 at PoP 2's, and 40 behind
the transit network, nearer to PoP 1.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from popctl.agent.api_orders import Clocks
from popctl.agent.events import PlaybookChanged
from popctl.agent.playbook_file import PlaybookFile
from popctl.cli.plan import plan_app
from popctl.model.announce import Announce
from popctl.model.reason import Reason
from tests.timeline.load_story import LoadFleet, Users

pytest.importorskip("networkx")

LAB = Path(__file__).parents[2] / "lab"
MODEL = LAB / "model"
USERS = [
    Users(60.0, {"pop1": 0.0, "pop2": 900.0}),
    Users(40.0, {"pop1": 0.0, "pop2": 10.0}),
    Users(10.0, {"pop1": 900.0, "pop2": 0.0}),
]


def planned(folder: Path, fleet_name: str = "test") -> Path:
    """Make a playbook with the command, for a fleet of this name."""
    fleet = json.loads((MODEL / "fleet.json").read_text(encoding="utf-8")) | {"name": fleet_name}
    (folder / "fleet.json").write_text(json.dumps(fleet), encoding="utf-8")
    out = folder / "playbook.json"
    files = ["--internet", str(MODEL / "internet.txt"), "--fleet", str(folder / "fleet.json")]
    files += ["--demand", str(MODEL / "demand.csv"), "--cache", str(folder)]
    assert plan_app(["playbook", "--out", str(out), *files], result_action="return_value") == 0
    return out


async def lab(playbook: Path, *, room: float) -> LoadFleet:
    """Return both PoPs, their users, and each agent with what it makes of the file; PoP 1 has room for 100."""
    fleet = LoadFleet(("pop1", "pop2"), capacities={"pop1": 100.0, "pop2": room}, users=USERS, playbooks=False)
    fleet.healthy(begin=0.0, end=60.0)
    for name in fleet.names:
        story = fleet.pops[name].story
        load = story.pop.load
        assert load is not None
        told: list[PlaybookChanged] = []

        async def audit(reason: str, details: dict[str, Any]) -> None:
            del reason, details

        clocks = Clocks(monotonic=lambda: 0.0, wall=time.time)
        await PlaybookFile(replace(story.pop, load=replace(load, playbook=playbook)), told.append, clocks, audit).look()
        story.happens(0.0, told[0])
    return fleet


def test_the_model_of_the_lab_is_the_lab() -> None:
    fleet = json.loads((MODEL / "fleet.json").read_text(encoding="utf-8"))
    for pop in fleet["pops"]:
        config = yaml.safe_load((LAB / "nodes" / pop["name"] / "popctl.yaml").read_text(encoding="utf-8"))
        assert config["pop"]["name"] == pop["name"]
        assert config["pop"]["asn"] == fleet["asn"]
        assert [one["asn"] for one in config["neighbors"]] == [one["upstream"] for one in pop["sessions"]]


async def test_with_room_at_the_other_pop_the_gate_permits_what_the_playbook_predicts(tmp_path: Path) -> None:
    fleet = (await lab(planned(tmp_path), room=200.0)).run_to(40.0)
    assert [step[1:] for step in fleet.steps] == [("pop1", 1, Reason.SHED_LOAD)]
    assert fleet.landing() == {"pop1": 60.0, "pop2": 50.0}, "the 40 behind the transit network, as predicted"
    assert fleet.pops["pop1"].now()[0] is Announce.DEPREFERRED


async def test_without_room_at_the_other_pop_the_gate_denies_it(tmp_path: Path) -> None:
    # 50 would fit; but the 40 are tied, so the row's error band makes 60 of them, and 70 are more than 85 % of 80.
    fleet = (await lab(planned(tmp_path), room=80.0)).run_to(40.0)
    assert not fleet.steps
    assert fleet.pops["pop1"].now()[:2] == (Announce.NORMAL, Reason.NO_ROOM)


async def test_a_playbook_that_was_made_for_another_fleet_permits_nothing(tmp_path: Path) -> None:
    fleet = (await lab(planned(tmp_path, "another"), room=200.0)).run_to(40.0)
    assert not fleet.steps
    assert fleet.pops["pop1"].now()[:2] == (Announce.NORMAL, Reason.PLAYBOOK_FOREIGN)
