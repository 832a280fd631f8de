"""What `popctl withdraw` says and does in a fleet: the guard's verdict, and force."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from popctl.cli.exits import Exit
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.eventually import eventually_async
from tests.unit.agent.fleet_rig import all_refuse, decided, two
from tests.unit.cli.command_line import popctl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.agent.api_rig import TestedAgent

WITHDRAW = ("withdraw", "vpn", "--reason", "router swap")


@asynccontextmanager
async def last_one(tmp_path: Path) -> AsyncIterator[TestedAgent]:
    """The last of two PoPs that serves."""
    async with two(tmp_path) as (ams, fra):
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        await eventually_async(lambda: not fra.world.view().fleet.members["ams"].counts("vpn"))
        yield fra


async def test_a_withdraw_that_would_be_held_orders_nothing_and_exits_7_where_that_was_asked_for(
    tmp_path: Path,
) -> None:
    async with last_one(tmp_path) as fra:
        refused = await popctl(*WITHDRAW, "--refuse-if-held", socket=fra.socket)
        assert refused.code == Exit.HELD, refused.err
        assert "0 other PoPs go on serving; would be held at the lowest preference: fleet-floor" in refused.err
        assert "refused (held): withdrawing vpn would be held" in refused.err
        assert (fra.store.intents, fra.announced()) == ((), {"vpn": Announce.NORMAL})


async def test_a_held_withdraw_is_carried_out_by_force_and_stays_forced_with_another_end(tmp_path: Path) -> None:
    async with last_one(tmp_path) as fra:
        held = await popctl(*WITHDRAW, "--timeout", "0s", socket=fra.socket)
        assert held.code == Exit.UNPROVEN
        await eventually_async(lambda: decided(fra) == (Announce.DEPREFERRED, Reason.FLEET_FLOOR, True))
        done = await popctl(*WITHDRAW, "--force", "--for", "1h", socket=fra.socket)
        assert done.code == Exit.OK, done.err
        assert "against it: fleet-floor, overridden by force" in done.err
        longer = await popctl("maintenance", "extend", "vpn", "--reason", "late", "--for", "5h", socket=fra.socket)
        assert (longer.code, "forced" in longer.out) == (Exit.OK, True), longer.err
        (intent,) = fra.store.intents
        assert intent.forced
        assert decided(fra) == (Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW, False)


async def test_before_a_withdraw_it_is_said_how_many_go_on_serving_and_that_landing_is_not_known(
    tmp_path: Path,
) -> None:
    async with two(tmp_path) as (ams, _):
        done = await popctl(*WITHDRAW, socket=ams.socket)
    assert done.code == Exit.OK, done.err
    assert "vpn: normal now, sessions unknown; 1 other PoPs go on serving; permitted\n" in done.err
    assert "where the load would land is not known: no-playbook\n" in done.err


async def test_what_will_follow_is_part_of_the_json_answer(tmp_path: Path) -> None:
    async with last_one(tmp_path) as fra:
        held = await popctl(*WITHDRAW, "--json", "--timeout", "0s", socket=fra.socket)
    (service,) = held.json["preview"]["services"]
    assert (service["name"], service["held"], service["verdict"], service["pops_left"]) == (
        "vpn",
        True,
        "fleet-floor",
        0,
    )
    assert held.json["preview"]["landing"]["problem"] == "no-playbook"
    assert held.err == ""
