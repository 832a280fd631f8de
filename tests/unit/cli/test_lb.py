"""`popctl lb explain`, `backend-config` and the inventory file they read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from popctl.cli.backend_config import backend_config
from popctl.cli.exits import Exit
from popctl.cli.lb import compare, explain
from popctl.cli.lb_inventory import InventoryError, load
from popctl.wire import packet
from popctl.wire.packet import UDP
from tests.balancers import CLIENT4, VIP4, server_spi
from tests.unit.config.samples import minimal

FOR_EVER = "the kernel counts whole seconds, and takes 0 for ever; use whole seconds, 1 or more"
INVENTORY = Path(__file__).parents[2] / "data" / "balancer" / "inventory.yaml"


def test_a_first_message_is_explained_down_to_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    code = explain(
        inventory=INVENTORY, source=str(CLIENT4), destination=str(VIP4), spi_i="1122334455667788", down=("b1",)
    )
    text = capsys.readouterr().out
    assert code == Exit.OK
    assert text.startswith("to b0: new-sa (rule spi-hash, row ")
    assert "responder SPI 0: first message of an IKE SA" in text
    assert "b1 down" in text


def test_the_role_swap_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    explain(
        inventory=INVENTORY,
        source=str(CLIENT4),
        destination=str(VIP4),
        spi_i=server_spi(1).hex(),
        spi_r="1122334455667788",
        from_responder=True,
        json=True,
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["backend"], found["reason"], found["rule"]) == (1, "ike-label", "initiator-label")


def test_hex_and_a_line_of_a_capture_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = packet.ip(CLIENT4, VIP4, UDP, packet.udp(1701, 1701, b"x" * 12))
    assert explain(network.hex(), inventory=INVENTORY) == Exit.OK
    assert "dropped: unprotected-l2tp" in capsys.readouterr().out
    capture = tmp_path / "x.pcap"
    frames = [b"\0" * 12 + b"\x08\x06" + b"arp", b"\0" * 12 + b"\x08\x00" + network]
    header = b"\xd4\xc3\xb2\xa1" + bytes(16) + struct.pack("<I", 1)
    capture.write_bytes(header + b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames))
    assert explain(inventory=INVENTORY, pcap=capture, line=2) == Exit.OK
    assert "dropped: unprotected-l2tp" in capsys.readouterr().out
    assert explain(inventory=INVENTORY, pcap=capture, line=1) == Exit.NOT_FOUND


def test_what_is_no_packet_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("45zz", inventory=INVENTORY) == Exit.USAGE
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"esp": "zz"}, "--esp: 'zz' is not a number of 32 bits; give 0..0xffffffff"),
        ({"esp": "0x1ffffffff"}, "--esp: '0x1ffffffff' is not a number of 32 bits; give 0..0xffffffff"),
        ({"esp": "-1"}, "--esp: '-1' is not a number of 32 bits; give 0..0xffffffff"),
        ({"sport": 70000}, "--sport: 70000 is not a number of 16 bits; give 0..65535"),
        ({"dport": -1}, "--dport: -1 is not a number of 16 bits; give 0..65535"),
        ({"spi_i": "xyz"}, "--spi-i: 'xyz' is not a number of 64 bits; give up to 16 hex digits"),
        ({"spi_i": "1" * 19}, f"--spi-i: '{'1' * 19}' is not a number of 64 bits; give up to 16 hex digits"),
        ({"spi_r": "-1"}, "--spi-r: '-1' is not a number of 64 bits; give up to 16 hex digits"),
        ({"ike_version": 16}, "--ike-version: 16 is not a number of 4 bits; give 0..15"),
        ({"down": ("nosuch",)}, f"--down: no backend 'nosuch' in {INVENTORY}; it has b0, b1"),
        ({"draining": ("nosuch",)}, f"--draining: no backend 'nosuch' in {INVENTORY}; it has b0, b1"),
        ({"source": "here"}, "--source: 'here' is not an IP address"),
        ({"destination": ""}, "--destination: '' is not an IP address"),
    ],
)
def test_an_option_that_makes_no_packet_is_named_in_one_line(
    fields: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good: dict[str, Any] = {"source": str(CLIENT4), "destination": str(VIP4)}
    assert explain(inventory=INVENTORY, **{**good, **fields}) == Exit.USAGE
    assert capsys.readouterr().err == f"{message}\n"


def test_the_settings_of_a_backend_come_from_the_inventory(capsys: pytest.CaptureFixture[str]) -> None:
    assert backend_config("b1", inventory=INVENTORY) == Exit.OK
    text = capsys.readouterr().out
    for line in (
        "    spi_mask = 0xffffffff00000000\n",
        f"    spi_label = 0x{server_spi(1)[:4].hex()}00000000\n",
        "    spi_min = 0x01c10000\n    spi_max = 0x01c1ffff\n",
        "            roam_events = no\n",
        "net.ipv4.conf.all.arp_ignore = 1\n",
        "ip address add 198.51.100.1/32 dev lo\n",
        "ip address add 2001:db8:ffff::1/128 dev lo nodad\n",
    ):
        assert line in text


def test_an_unknown_backend_and_a_dead_socket_are_told_apart(tmp_path: Path) -> None:
    assert backend_config("b9", inventory=INVENTORY) == Exit.NOT_FOUND
    assert backend_config("b1", inventory=INVENTORY, check=tmp_path / "vici") == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spi_plan", "generation"), 7, "spi_plan.generation: 7 is not 0..6; take the next"),
        (("pop", "id"), 0, "pop.id: 0 is not 1..1023; choose a free id or widen spi_plan.pop_bits in a new generation"),
        (
            ("backends", "b1", "labelled"),
            False,
            (
                "services.vpn.balancer.key: backend b1 has no label, so new SAs cannot be spread by SPI; "
                "give it an id of the plan, or use source-ip"
            ),
        ),
        (
            ("backends", "b1", "address6"),
            None,
            "backends.b1: has no IPv6 address, but vpn has an IPv6 VIP; set its address on the balancer's link",
        ),
    ],
)
def test_a_bad_inventory_names_key_and_remedy(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    document = yaml.safe_load(INVENTORY.read_text())
    where = document
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    file = tmp_path / "inventory.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(InventoryError) as refused:
        load(file)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *(("timeout_s", value, f"a memory of {value} s: {FOR_EVER}") for value in (0, 0.2, -1, 1.5)),
        ("size", 0, "room for 0 clients; use a whole number, 1 or more"),
    ],
)
def test_a_memory_of_clients_without_an_end_is_refused(tmp_path: Path, key: str, value: float, message: str) -> None:
    with pytest.raises(InventoryError) as refused:
        load(changed(tmp_path, lambda d: d["services"]["vpn"]["balancer"].update(affinity={key: value})))
    assert str(refused.value) == f"services.vpn.balancer.affinity.{key}: {message}"


def changed(directory: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the inventory with something changed."""
    document = yaml.safe_load(INVENTORY.read_text())
    change(document)
    file = directory / "other.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["spi_plan"].update(site="example.org"),
            "spi_plan: differs in site (example.net, example.org); copy one to the other before either is loaded",
        ),
        (
            lambda d: d["backends"].update(b0={**d["backends"]["b0"], "id": 1}, b1={**d["backends"]["b1"], "id": 0}),
            "pops.7.backends.0: is 'b0' here and 'b1' there; ids are permanent: give the newer backend a free id",
        ),
        (
            lambda d: d["services"]["vpn"]["balancer"].update(seed=3),
            (
                "services.vpn: differs in rows, seed (rows and seed follow from backends, weights and "
                "balancer.secret_file); copy one to the other before either is loaded"
            ),
        ),
        (
            lambda d: d["services"].update(more={**d["services"]["vpn"], "vips": ["198.51.100.2"]}),
            "services.more: is balanced only there; copy one to the other before either is loaded",
        ),
    ],
)
def test_two_inventories_that_disagree_are_one_line_each(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(INVENTORY, changed(tmp_path, change)) == Exit.PROBLEMS
    assert capsys.readouterr().err.splitlines()[0] == message


def test_inventories_of_two_pops_need_only_one_plan(tmp_path: Path) -> None:
    assert compare(INVENTORY, INVENTORY) == Exit.OK
    assert compare(INVENTORY, changed(tmp_path, lambda d: d["pop"].update(id=8))) == Exit.OK
    assert compare(INVENTORY, tmp_path / "nothing") == Exit.USAGE


def test_the_inventory_is_what_the_tests_balancer_is() -> None:
    found = load(INVENTORY)
    assert found.site.names == {(7, 0): "b0", (7, 1): "b1"}
    assert found.tables.services[0].labels.ike[int.from_bytes(server_spi(1)[:4], "big")] == 1


def test_an_agents_configuration_is_an_inventory_where_its_certificates_are_not(tmp_path: Path) -> None:
    """An engineer explains a packet at a desk: nothing is connected to."""
    path = tmp_path / "popctl.yaml"
    service = "    prefixes: [198.51.100.0/24]\n"
    files = "certificate: /nowhere/a.pem, key: /nowhere/a.key"
    fleet = (
        f'fleet: {{name: site, region: eu, etcd: ["https://127.0.0.1:2379"], tls: {{{files}, ca: /nowhere/ca.pem}}}}\n'
    )
    api = f'api: {{address: 192.0.2.10, port: 8443, {files}, client_ca: /nowhere/ca.pem, operate: ["cn:alice"]}}\n'
    balancer = (service, f"{service}    balancer: {{vips: [198.51.100.1]}}\n")
    path.write_text(minimal(balancer, tail=f"spi_plan: {{site: example.net}}\n{fleet}{api}"))
    assert load(path).ids == {"vpn-1": 1, "vpn-2": 2}
