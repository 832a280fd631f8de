"""What the fleet's hand adds to the report of a PoP, in the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from popctl.agent.events import Event, FleetChanged
from popctl.agent.fleet_hand import FleetHand, Identity
from popctl.fleet.client import StoreFleet
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.model.balancer import Labelling, SpiPlan
from popctl.model.fleet import FleetWish, FloorPolicy
from tests.eventually import eventually_async
from tests.fleet_agents import member


async def test_the_others_hear_who_speaks_and_what_labels_say_of_it() -> None:
    labelling = Labelling(pop=7, plans=(SpiPlan(site="example.net", generation=1), SpiPlan(site="example.net")))
    identity = Identity(config_digest="sha256:abc", incarnation="ams-1", labelling=labelling)
    heard: list[Event] = []
    fleet = StoreFleet("ams", "ams-1", MemoryLine("ams", MemoryHub()), FloorPolicy())
    hand = FleetHand(fleet, identity, heard.append)
    hand.set(FleetWish(report=member("ams").record.report))
    running = asyncio.create_task(hand.run())
    try:
        await eventually_async(lambda: any("ams" in one.view.members for one in heard if isinstance(one, FleetChanged)))
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    (last,) = [one for one in heard if isinstance(one, FleetChanged)][-1:]
    report = last.view.members["ams"].record.report
    assert (report.config_digest, report.incarnation, report.labelling) == ("sha256:abc", "ams-1", labelling)
