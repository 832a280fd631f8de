"""What the gate reads of the fleet."""

from __future__ import annotations

from dataclasses import replace

from popctl.core.fleet_load import fleet_load
from popctl.model.fleet import FleetView
from popctl.model.load import PopLoad
from tests.fleet_agents import member


def test_a_pop_that_does_not_tell_its_load_is_silent_and_not_idle() -> None:
    told = member("ams")
    load = PopLoad(level=0, announcing=True, used={}, peak={}, capacity={}, at=9.0)
    told = replace(told, record=replace(told.record, report=replace(told.record.report, load=load)))
    found = fleet_load("test", FleetView(members={"ams": told, "fra": member("fra")}, current_at=10.0))
    assert (found.pops, found.silent, found.at) == ({"ams": load}, {"fra"}, 10.0)
