"""`popctl lb explain --live`: what the running agent has out or draining is so in the explanation."""

from __future__ import annotations

from pathlib import Path

from popctl.agent.events import TablesChanged
from popctl.cli.exits import Exit
from popctl.model.balancer import BalancerActual
from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from tests import pops
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.cli.command_line import Ended, popctl

INVENTORY = """\
spi_plan: {site: example.net}
pop: {id: 1}
sizes: {pops: 1000, backends_per_pop: 64, sas_per_backend: 32768}
backends:
  b1: {id: 1, address: 10.77.0.11}
  b2: {id: 2, address: 10.77.0.12}
services:
  vpn: {vips: [198.51.100.1], backends: [b1, b2], balancer: {seed: 1}}
"""
ALL = ("2", "3")
"""Initiator SPIs: the rows of this inventory prefer b2 for one, b1 for the other."""


async def explained(agent: api_rig.TestedAgent, inventory: Path, spi: str, *more: str) -> Ended:
    """Ask where a first message goes."""
    words = ("lb", "explain", "--inventory", str(inventory), "--source", "203.0.113.7", "--destination", "198.51.100.1")
    return await popctl(*words, "--spi-i", spi, *more, socket=agent.socket)


async def test_what_the_agent_has_out_or_draining_gets_nothing_new(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(INVENTORY)
    async with api_rig.running(pops.balanced(api_rig.small_pop(tmp_path))) as agent:
        agent.all_pass()
        await eventually_async(lambda: agent.world.view().balancer.alive == {1, 2})
        both = [(await explained(agent, inventory, spi, "--live")).out for spi in ALL]
        assert [text.partition(":")[0] for text in both] == ["to b2", "to b1"]

        agent.observe(1, Outcome.FAIL, Reason.REFUSED, times=10)
        await eventually_async(lambda: agent.world.view().balancer.alive == {2})
        down = [await explained(agent, inventory, spi, "--live") for spi in ALL]
        assert [(one.out.partition(":")[0], one.err) for one in down] == [("to b2", "")] * len(ALL)

        agent.observe(1, Outcome.PASS, Reason.ANSWERED, times=10)
        await eventually_async(lambda: agent.world.view().balancer.alive == {1, 2})
        await popctl("drain", "b2", "--reason", "test", socket=agent.socket)
        await eventually_async(lambda: agent.world.view().balancer.draining == {2})
        drained = [(await explained(agent, inventory, spi, "--live")).out for spi in ALL]
        assert {text.partition(":")[0] for text in drained} == {"to b1"}

        agent.loop.put(TablesChanged(BalancerActual(problem="flushed")))
        later = await explained(agent, inventory, "1", "--live")
        wanted = ("b1: alive is wanted, and not in the kernel yet", "b2: draining is wanted, and not in the kernel yet")
        assert tuple(later.err.splitlines()) == wanted

        inventory.write_text(INVENTORY.replace("b2", "b3"))
        strange = await explained(agent, inventory, "1", "--live")
        assert (strange.code, strange.err) == (
            Exit.USAGE,
            "--live: b2, b3: not a backend of both the agent's balancer and the inventory\n",
        )
    gone = await explained(agent, inventory, "1", "--live")
    assert gone.code == Exit.UNREACHABLE
