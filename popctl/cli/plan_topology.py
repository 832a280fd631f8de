"""`popctl topology`: a synthetic Internet to plan on, and how well an AS graph resembles the real one."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter, validators

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, write_json
from popctl.cli.plan_output import expect_writable, writing
from popctl.cli.plan_render import show_fits
from popctl.cli.plan_world import FLEET, INTERNET, Cache, attempt, graph_of
from popctl.cli.render import console
from topology import caida, fit, fleet_file
from topology.engine import engine_named
from topology.example import MOST_USERS, example_fleet
from topology.flat import compile_links
from topology.generate import FEWEST_ASES, generate
from topology.keys import MOST_ASES

topology_app = App(name="popctl topology", help="Build and inspect the Internet model behind `plan`.")

MOST_POPS: Final = 5000
"""Of an example fleet."""
_UPSTREAMS: Final = 3

Ases = Annotated[int, Parameter(name="--ases", validator=validators.Number(gte=FEWEST_ASES, lte=MOST_ASES))]
Pops = Annotated[int, Parameter(name="--pops", validator=validators.Number(gte=1, lte=MOST_POPS))]
Users = Annotated[int, Parameter(name="--users", validator=validators.Number(gte=1, lte=MOST_USERS))]


@topology_app.command(name="generate")
def write_internet(
    *,
    ases: Annotated[
        int, Parameter(name="--ases", validator=validators.Number(gte=FEWEST_ASES, lte=MOST_ASES))
    ] = 80_000,
    seed: Annotated[int, Parameter(name="--seed", validator=validators.Number(gte=0))] = 1,
    pops: Pops = 20,
    users: Users = 1_000_000,
    internet: Annotated[Path, Parameter(name="--internet")] = INTERNET,
    fleet: Annotated[Path, Parameter(name="--fleet")] = FLEET,
    json: AsJson = False,
) -> int:
    """Write a synthetic Internet, fitted to published statistics, and a fleet to try on it.

    Parameters
    ----------
    ases
        How many ASes.
    seed
        The same seed gives the same files.
    pops
        How many PoPs the fleet has, with three upstreams each.
    users
        How many sessions the fleet is made for.
    internet
        Where to write the AS relationships, in CAIDA's serial-1 form.
    fleet
        Where to write the fleet, in JSON.
    """

    def work() -> int:
        expect_writable(internet, fleet)
        links = generate(ases, seed)
        graph = compile_links(links)
        sites = example_fleet(graph, pops=pops, upstreams=_UPSTREAMS, sessions=users, seed=seed, engine=engine_named())
        with writing(internet):
            caida.write(internet, links, comment=f"synthetic: popctl topology generate --ases {ases} --seed {seed}")
        with writing(fleet):
            fleet.write_text(json_text.dumps(fleet_file.to_json(sites), indent=1) + "\n", encoding="utf-8")
        written = {"ases": ases, "transit": len(links.transit), "peering": len(links.peering)}
        if json:
            made_for = {"file": str(fleet), "pops": pops, "sessions": users}
            write_json({"internet": {"file": str(internet), **written}, "fleet": made_for})
        else:
            counts = f"{ases} ASes, {len(links.transit)} transit links, {len(links.peering)} peerings"
            sys.stdout.write(f"{internet}: {counts}\n{fleet}: {pops} PoPs for {users} sessions\n")
        return Exit.OK

    return attempt(work, as_json=json)


@topology_app.command(name="fit")
def show_fit(
    *, internet: Annotated[Path, Parameter(name="--internet")] = INTERNET, cache: Cache = None, json: AsJson = False
) -> int:
    """Compare an AS graph with the published statistics of the Internet.

    Parameters
    ----------
    internet
        AS relationships: CAIDA serial-1 or serial-2, plain, .gz or .bz2.
    cache
        Folder for compiled AS graphs; the user's cache folder when left out.
    """

    def work() -> int:
        found = fit.measure(graph_of(internet, cache))
        if json:
            write_json(
                [{"name": one.name, "distance": one.distance, "bound": one.bound, "ok": one.ok} for one in found]
            )
        else:
            show_fits(found, console())
        return Exit.OK if all(one.ok for one in found) else Exit.PROBLEMS

    return attempt(work, as_json=json)
