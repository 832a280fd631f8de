"""`popctl backend-config`: what one backend must be told, and whether a running one was."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from popctl.cli.client import ClientError, NothingThereError, UsageError
from popctl.cli.exits import Exit
from popctl.cli.options import CONFIGURATION, AsJson, Inventory, attempt, printable, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from popctl.wire.strongswan_conf import Check

_VICI_S = 10.0


class _UnlabelledError(UsageError):
    """There is nothing that its SPIs could be compared with."""

    located = True


backend_config_app = App(name="backend-config", help="Writes the configuration of a backend.")


class SilentBackendError(ClientError):
    """A backend's control socket does not answer."""

    exit_code = Exit.UNREACHABLE


@backend_config_app.default
def backend_config(
    backend: str,
    /,
    *,
    inventory: Inventory = CONFIGURATION,
    check: Path | None = None,
    json: AsJson = False,
) -> int:
    """Print strongSwan's settings, sysctls and addresses for one backend, or check a running one.

    Parameters
    ----------
    backend
        Its name in the inventory.
    inventory
        File with the SPI plan, backends and services: the agent's configuration, if nothing else is said.
    check
        VICI socket of the running backend: the SPIs of its live SAs must follow the plan. strongSwan does not tell
        its settings; without a live SA nothing can be said, and the exit code says so.
    json
        One JSON object on standard output; `settings` is the text for people.
    """
    from popctl.cli.lb_inventory import load  # noqa: PLC0415 - numpy and YAML only where needed
    from popctl.wire.spi import Identity  # noqa: PLC0415
    from popctl.wire.strongswan_conf import render, render_unlabelled  # noqa: PLC0415

    def work() -> int:
        found = load(inventory)
        if backend not in found.ids:
            raise NothingThereError(f"backends: {backend!r} is not one of {', '.join(sorted(found.ids))}")
        member = found.ids[backend]
        identity = Identity(found.pop, member)
        if check is not None:
            if backend in found.unlabelled:
                raise _UnlabelledError(
                    f"backends.{backend}.labelled: is false in {inventory}, so its SPIs follow no plan"
                )
            return _say(_check((found.plan,), identity, check), as_json=json)
        vips = sorted({str(v): v for s in found.tables.services if member in s.rows.row(0) for v in s.vips}.items())
        addresses = [vip for _, vip in vips]
        if backend in found.unlabelled:
            text = render_unlabelled(found.plans, backend, addresses)
        else:
            text = render(found.plan, identity, backend, addresses)
        if json:
            write_json({"backend": backend, "settings": text})
        else:
            sys.stdout.write(text)
        return Exit.OK

    return attempt(work, as_json=json)


def _say(found: Check, *, as_json: bool) -> Exit:
    from popctl.model.observation import Outcome  # noqa: PLC0415

    if as_json:
        seen = {"ike_seen": found.ike_seen, "esp_seen": found.esp_seen}
        write_json({"outcome": found.outcome.value, "problems": list(map(str, found.problems)), **seen})
    else:
        sys.stdout.write("".join(f"{printable(str(problem))}\n" for problem in found.problems))
        sys.stdout.write(f"{found.outcome}: {found.ike_seen} IKE and {found.esp_seen} ESP SPIs seen\n")
    return {Outcome.PASS: Exit.OK, Outcome.FAIL: Exit.PROBLEMS, Outcome.UNKNOWN: Exit.UNPROVEN}[found.outcome]


def _check(plans: Any, identity: Any, path: Path) -> Check:  # noqa: ANN401 - as `check` of the codec takes them
    from popctl.vici.errors import ViciError  # noqa: PLC0415
    from popctl.wire.strongswan_conf import check  # noqa: PLC0415

    try:
        return check(plans, identity, asyncio.run(_list_sas(path)))
    except ViciError as error:
        raise SilentBackendError(str(error)) from error


async def _list_sas(path: Path) -> list[Mapping[str, Any]]:
    from contextlib import aclosing  # noqa: PLC0415 - as below

    from popctl.model.pop import ViciEndpoint  # noqa: PLC0415
    from popctl.vici.connection import asking  # noqa: PLC0415 - only this command speaks VICI

    async with asking(ViciEndpoint(path=path), _VICI_S) as charon, aclosing(charon.sas()) as found:
        return [sa async for sa in found]
