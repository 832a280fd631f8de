"""`popctl backend-config`: what one backend must be told, and whether a running one was."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from popctl.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

_VICI_S = 10.0

backend_config_app = App(name="backend-config", help="Writes the configuration of a backend.")


@backend_config_app.default
def backend_config(
    backend: str,
    /,
    *,
    inventory: Annotated[Path, Parameter(name="--inventory")],
    check: Path | None = None,
) -> int:
    """Print strongSwan's settings, sysctls and addresses for one backend, or check a running one.

    Parameters
    ----------
    backend
        Its name in the inventory.
    inventory
        File with the SPI plan, backends and services.
    check
        VICI socket of the running backend: the SPIs of its live SAs must follow the plan. strongSwan does not tell
        its settings; without a live SA nothing can be said, and the exit code says so.
    """
    from popctl.cli.lb_inventory import InventoryError, load  # noqa: PLC0415 - numpy and YAML only where needed
    from popctl.wire.spi import Identity  # noqa: PLC0415
    from popctl.wire.strongswan_conf import render  # noqa: PLC0415

    try:
        found = load(inventory)
    except (InventoryError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks
        return Exit.USAGE
    if backend not in found.ids:
        print(f"backends: {backend!r} is not one of {', '.join(sorted(found.ids))}", file=sys.stderr)  # noqa: T201
        return Exit.NOT_FOUND
    identity = Identity(found.pop, found.ids[backend])
    if check is not None:
        return _check(found.plan, identity, check)
    member = found.ids[backend]
    vips = sorted({str(v): v for s in found.tables.services if member in s.rows.row(0) for v in s.vips}.items())
    print(render(found.plan, identity, backend, [vip for _, vip in vips]), end="")  # noqa: T201 - a command speaks
    return Exit.OK


def _check(plan: Any, identity: Any, path: Path) -> int:  # noqa: ANN401 - as `check` of the codec takes them
    from popctl.model.observation import Outcome  # noqa: PLC0415
    from popctl.vici.errors import ViciError  # noqa: PLC0415
    from popctl.wire.strongswan_conf import check  # noqa: PLC0415

    try:
        found = check(plan, identity, asyncio.run(_list_sas(path)))
    except ViciError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks
        return Exit.UNREACHABLE
    for problem in found.problems:
        print(problem)  # noqa: T201 - a command speaks
    print(f"{found.outcome}: {found.ike_seen} IKE and {found.esp_seen} ESP SPIs seen")  # noqa: T201 - a command speaks
    return {Outcome.PASS: Exit.OK, Outcome.FAIL: Exit.PROBLEMS, Outcome.UNKNOWN: Exit.UNPROVEN}[found.outcome]


async def _list_sas(path: Path) -> list[Mapping[str, Any]]:
    from contextlib import aclosing  # noqa: PLC0415 - as below

    from popctl.model.pop import ViciEndpoint  # noqa: PLC0415
    from popctl.vici.connection import asking  # noqa: PLC0415 - only this command speaks VICI

    async with asking(ViciEndpoint(path=path), _VICI_S) as charon, aclosing(charon.sas()) as found:
        return [sa async for sa in found]
