"""`popctl lb explain`: which rule, which row, which backend takes a packet, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from popctl.cli.client import AgentClient, NothingThereError, UnreadableError, UsageError
from popctl.cli.exits import Exit
from popctl.cli.options import CONFIGURATION, DEFAULT_SOCKET, AsJson, Inventory, attempt, printable, write_json
from popctl.cli.reach import UnixReach

if TYPE_CHECKING:
    from popctl.cli.lb_inventory import BalancerInventory
    from popctl.model.balancer import AffinityKey, Packet, Steering, Tables
    from popctl.model.route import Address

lb_app = App(name="lb", help="Looks into the balancer's decisions.")


@lb_app.command
def explain(
    packet: str = "",
    /,
    *,
    inventory: Inventory = CONFIGURATION,
    pcap: Path | None = None,
    line: int | None = None,
    source: str = "",
    destination: str = "",
    sport: int = 500,
    dport: int = 500,
    spi_i: str = "",
    spi_r: str = "0",
    ike_version: int = 2,
    from_responder: bool = False,
    esp: str = "",
    down: tuple[str, ...] = (),
    draining: tuple[str, ...] = (),
    live: Annotated[bool, Parameter(negative="")] = False,
    socket: Annotated[Path | None, Parameter(env_var="POPCTL_SOCKET")] = None,
    json: AsJson = False,
) -> int:
    """Say where a packet goes: from hex, from a capture, or from a 5-tuple and SPIs.

    All backends are taken for alive unless something else is said. Packets of a capture are taken in order, so that
    what one teaches the balancer is known for the next; no other client is remembered.

    Parameters
    ----------
    packet
        An IP packet as hex digits.
    inventory
        File with the SPI plan, backends and services: the agent's configuration, if nothing else is said.
    pcap
        A capture; with --line only that record is shown.
    line
        Record of the capture, from 1.
    spi_i
        Initiator SPI (IKE), hex.
    spi_r
        Responder SPI (IKE), hex; 0 is a first message.
    from_responder
        IKEv2: the client answers an SA that the server started (I flag clear).
    esp
        ESP SPI; native, or inside UDP when --dport is 4500.
    down
        Backends to take for down.
    draining
        Backends to take for draining.
    live
        Take those for down and draining that the running agent has so, too.
    socket
        Unix socket of that agent's API; /run/popctl/api.sock if nothing else is said.
    json
        One JSON object on standard output; of a capture, with all its packets.
    """
    from popctl.cli.lb_inventory import load  # noqa: PLC0415 - numpy and YAML only where needed
    from popctl.wire.errors import WireError  # noqa: PLC0415

    def work() -> int:
        try:
            found = load(inventory)
            tables = _with_health(found, inventory, down, draining)
            if live:
                tables = _as_it_is(tables, found, AgentClient(UnixReach(socket or DEFAULT_SOCKET)))
            if pcap is not None:
                packets = list(_capture(pcap))
            elif packet:
                packets = [(1, _from_hex(packet))]
            else:
                fields = _Fields(source, destination, sport, dport, spi_i, spi_r, ike_version, from_responder, esp)
                packets = [(1, fields.packet())]
            shown = [(n, s) for n, s in _steer_all(tables, packets) if line is None or n == line]
        except WireError as error:
            raise UsageError(str(error)) from error
        if not shown:
            raise NothingThereError(
                f"{pcap or 'without --pcap'}: no IP packet in {'it' if line is None else f'record {line}'}"
            )
        if json:
            records = [{"record": number} | _document(steering) for number, steering in shown]
            write_json(_document(shown[0][1]) if pcap is None else {"packets": records})
        else:
            sys.stdout.write("".join(f"{_text(tables, steering)}\n" for _, steering in shown))
        return Exit.OK

    return attempt(work, as_json=json)


@lb_app.command
def compare(one: Path, other: Path, /, *, json: AsJson = False) -> int:
    """Say where two inventories disagree: two balancers of a PoP must answer alike, and PoPs of a site share a plan.

    Parameters
    ----------
    one
        File with the SPI plan, backends and services.
    other
        The same of another balancer or PoP.
    json
        One JSON object on standard output.
    """
    from popctl.cli.lb_inventory import load  # noqa: PLC0415 - numpy and YAML only where needed
    from popctl.core.balance import differences  # noqa: PLC0415
    from popctl.wire.spi_lint import disagreements, one_pop  # noqa: PLC0415

    def work() -> int:
        ours, theirs = load(one), load(other)
        found = disagreements(ours.site, theirs.site)
        if ours.pop == theirs.pop:
            found += one_pop(ours.pop, ours.name, theirs.name) or differences(ours.tables, theirs.tables)
        if json:
            write_json({"agree": not found, "problems": [asdict(problem) for problem in found]})
        else:
            sys.stderr.write("".join(f"{printable(str(problem))}\n" for problem in found))
        return Exit.PROBLEMS if found else Exit.OK

    return attempt(work, as_json=json)


class _OptionError(UsageError):
    """An option that cannot be used. Says which."""

    located = True


@dataclass(frozen=True, slots=True)
class _Fields:
    """A packet described by its fields."""

    source: str
    destination: str
    sport: int
    dport: int
    spi_i: str
    spi_r: str
    version: int
    from_responder: bool
    esp: str

    def packet(self) -> Packet:
        """Build it. Raises `WireError`, `_OptionError`."""
        from popctl.wire import packet as build  # noqa: PLC0415

        source, destination = _address("--source", self.source), _address("--destination", self.destination)
        sport, dport = _in_range("--sport", self.sport, 16), _in_range("--dport", self.dport, 16)
        if self.esp:
            body = build.esp(_number("--esp", self.esp, 0, 32))
            protocol = build.UDP if dport == build.NATT_PORT else build.ESP
        else:
            given = (("--spi-i", self.spi_i), ("--spi-r", self.spi_r))
            spis = [_number(option, text or "0", 16, 64).to_bytes(8, "big") for option, text in given]
            version = _in_range("--ike-version", self.version, 4)
            body = build.ike(*spis, version=version, initiator=not self.from_responder)
            body = build.NON_ESP_MARKER + body if dport == build.NATT_PORT else body
            protocol = build.UDP
        payload = build.udp(sport, dport, body) if protocol == build.UDP else body
        return build.parse(build.ip(source, destination, protocol, payload))


def _number(option: str, text: str, base: int, bits: int) -> int:
    remedy = f"up to {bits // 4} hex digits" if base == 16 else f"0..{(1 << bits) - 1:#x}"  # noqa: PLR2004 - hex
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << bits:
        raise _OptionError(f"{option}: {text!r} is not a number of {bits} bits; give {remedy}")
    return number


def _in_range(option: str, number: int, bits: int) -> int:
    if not 0 <= number < 1 << bits:
        raise _OptionError(f"{option}: {number} is not a number of {bits} bits; give 0..{(1 << bits) - 1}")
    return number


def _address(option: str, text: str) -> Address:
    from popctl.wire.errors import WireError  # noqa: PLC0415
    from popctl.wire.packet import address  # noqa: PLC0415

    try:
        return address(text)
    except WireError as error:
        raise _OptionError(f"{option}: {text!r} is {error.problem}") from error


def _from_hex(text: str) -> Packet:
    from popctl.wire.packet import from_hex  # noqa: PLC0415

    return from_hex(text)


def _capture(path: Path) -> Iterator[tuple[int, Packet]]:
    from popctl.wire.errors import WireError  # noqa: PLC0415
    from popctl.wire.packet import parse  # noqa: PLC0415
    from popctl.wire.pcap import ip_packets  # noqa: PLC0415

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(path, error) from error
    for number, network in enumerate(ip_packets(content), start=1):
        if network is None:
            continue
        try:
            yield number, parse(network)
        except WireError as error:
            print(f"record {number}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks


def _steer_all(tables: Tables, packets: list[tuple[int, Packet]]) -> Iterator[tuple[int, Steering]]:
    from popctl.core.affinity import remember  # noqa: PLC0415
    from popctl.core.steer import steer  # noqa: PLC0415

    memory: dict[AffinityKey, int] = {}
    for number, packet in packets:
        steering = steer(tables, packet, memory)
        memory = remember(memory, steering.learns)
        yield number, steering


def _with_health(found: BalancerInventory, inventory: Path, down: tuple[str, ...], draining: tuple[str, ...]) -> Tables:
    for option, names in (("--down", down), ("--draining", draining)):
        for name in names:
            if name not in found.ids:
                there = ", ".join(found.ids)
                raise _OptionError(f"{option}: no backend {name!r} in {inventory}; it has {there}")
    return replace(
        found.tables,
        alive=found.tables.alive - {found.ids[name] for name in down},
        draining=frozenset(found.ids[name] for name in draining),
    )


def _as_it_is(tables: Tables, found: BalancerInventory, agent: AgentClient) -> Tables:
    """Take out and drain what the agent has out and draining. Raises `ClientError`."""
    places = {one.name: one.balancer for one in agent.status().backends if one.balancer is not None}
    strange = sorted(places.keys() ^ found.ids.keys())
    if strange:
        raise _OptionError(
            f"--live: {', '.join(strange)}: not a backend of both the agent's balancer and the inventory"
        )
    for name, one in places.items():
        if not one.in_kernel:
            print(f"{printable(name)}: {one.place} is wanted, and not in the kernel yet", file=sys.stderr)  # noqa: T201 - a command speaks
    out = {found.ids[name] for name, one in places.items() if one.place in ("out", "cut")}
    drained = {found.ids[name] for name, one in places.items() if one.place == "draining"}
    return replace(tables, alive=tables.alive - out, draining=tables.draining | drained)


def _text(tables: Tables, steering: Steering) -> str:
    where = "dropped" if steering.backend is None else f"to {tables.backends[steering.backend].name}"
    if steering.reason in ("replicated", "not-a-vip"):
        where = {"replicated": "copied to all backends", "not-a-vip": "not for the balancer"}[steering.reason]
    row = "" if steering.row is None else f", row {steering.row} rank {steering.rank}"
    lines = [f"{where}: {steering.reason} (rule {steering.rule}{row})", *(f"  {why}" for why in steering.why)]
    return "\n".join(lines)


def _document(steering: Steering) -> dict[str, Any]:
    fields = ("reason", "service", "backend", "rule", "row", "rank", "why")
    return {name: getattr(steering, name) for name in fields}
