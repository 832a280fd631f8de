"""`popctl lb explain`, `backend-config` and the inventory file they read."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from popctl.cli.backend_config import backend_config
from popctl.cli.doctor import doctor
from popctl.cli.exits import Exit
from popctl.cli.lb import compare, explain
from popctl.cli.lb_inventory import InventoryError, load
from popctl.config.yaml_text import read_tree
from popctl.wire import packet
from popctl.wire.packet import UDP
from tests.balancers import CLIENT4, PLAN, VIP4, server_spi
from tests.unit.config import samples
from tests.unit.config.samples import minimal

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
    capsys.readouterr()
    assert explain(inventory=INVENTORY, pcap=capture, line=1) == Exit.NOT_FOUND
    assert capsys.readouterr().err == f"popctl: {capture}: no IP packet in record 1\n"
    assert explain(inventory=INVENTORY, pcap=capture, json=True) == Exit.OK
    (one,) = json.loads(capsys.readouterr().out)["packets"]
    assert (one["record"], one["reason"]) == (2, "unprotected-l2tp")


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


def test_while_a_plan_is_rolled_out_both_are_explained_and_the_new_one_is_handed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(tmp_path, lambda d: d["spi_plan"].update(generation=1, previous={"site": "example.net"}))
    there = {"inventory": file, "source": str(CLIENT4), "destination": str(VIP4), "spi_i": "1"}
    for plan in (PLAN, replace(PLAN, generation=1)):
        assert explain(**there, spi_r=server_spi(1, plan=plan).hex()) == Exit.OK
        assert capsys.readouterr().out.startswith("to b1: ike-label (rule responder-label)")
    assert backend_config("b1", inventory=file) == Exit.OK
    assert f"spi_label = 0x{server_spi(1, plan=plan)[:4].hex()}00000000\n" in capsys.readouterr().out
    assert compare(INVENTORY, file) == Exit.PROBLEMS
    assert "spi_plan.previous: is nothing here and {site: example.net, " in capsys.readouterr().err


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
    assert str(refused.value) == f"{file}: {message}"


AGENTS = """pop: {name: fra1, id: 1, asn: 65010, router_id: 192.0.2.10, location: %s}
allowlist: {prefixes: [198.51.100.0/24], next_hops: [192.0.2.1]}
services: {vpn: {prefixes: [198.51.100.0/24], backends: [b1]}}
backends: [{name: b1, id: 1, address: 192.0.2.2}]
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: [", "line 1, column 5: found malformed YAML: ", id="no YAML"),
        pytest.param("", "(document): found nothing: the document is not a mapping; ", id="empty"),
        pytest.param("- 1\n", "(document): found a list: the document is not a mapping; ", id="a list"),
        pytest.param("[" * 3000, "line 1, column 33: found malformed YAML: nested deeper than 32 levels", id="deep"),
        pytest.param(
            "pop: {id: 7}\npop: {id: 8}", "line 2, column 1: found pop: this key stands twice", id="a key twice"
        ),
        pytest.param("pop: &x {id: 7}", "line 1, column 6: found malformed YAML: anchors", id="an anchor"),
        pytest.param(
            "pop: \0", "line 1, column 6: found malformed YAML: a character that YAML", id="a control character"
        ),
        pytest.param("pop: {id: 7}", "spi_plan: found nothing: is required; add it: How SPIs", id="no plan"),
        pytest.param("pop: {id: x}", 'pop.id: found "x": is not a whole number; write digits', id="a wrong type"),
        pytest.param("pop: {id: 7, nmae: x}", "pop.nmae: found nmae: unknown key; ", id="an unknown key"),
        pytest.param("backends: {b0: {}}", "backends.b0.id: found nothing: is required; add it: Number", id="no id"),
        pytest.param(
            "backends: {b0: {id: 0, address: '::1'}}", "backends.b0.address: found ::1: is not an IPv4", id="v6"
        ),
        pytest.param(
            "backends: {b0: {id: 3}, b1: {id: 3}}",
            "backends.b1.id: 3 belongs to b0; choose a free id",
            id="an id twice",
        ),
        pytest.param(
            "backends: {b0: {id: 0}}\nservices: {vpn: {vips: [192.0.2.1], backends: [b00], balancer: {seed: 1}}}",
            "services.vpn.backends[0]: found b00: no such backend; did you mean b0?",
            id="a backend that is not there",
        ),
        pytest.param(
            "services: {vpn: {vips: [192.0.2.1], backends: [b0], balancer: {seed: hunter2}}}",
            "services.vpn.balancer.seed: found a value that is not shown: is not a number of 64 bits",
            id="a bad seed",
        ),
        *(
            pytest.param(
                f"services: {{vpn: {{vips: [192.0.2.1], backends: [b0], balancer: {{seed: 1, affinity: {written}}}}}}}",
                f"services.vpn.balancer.affinity.{told}; ",
                id=written,
            )
            for written, told in (
                ("{timeout_s: 0}", "timeout_s: found 0: is too small"),
                ("{timeout_s: -1}", "timeout_s: found -1: is too small"),
                ("{timeout_s: 0.2}", "timeout_s: found 0.2: is not a whole number"),
                ("{size: 0}", "size: found 0: is too small"),
            )
        ),
        pytest.param(
            AGENTS % "here", "neighbors: found nothing: is required; add it: ", id="the agent's, no neighbours"
        ),
        pytest.param(
            AGENTS % "2026-02-30" + "lease: x", "lease: found x: is not a mapping; ", id="the agent's, one dialect"
        ),
    ],
)
def test_a_malformed_inventory_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text(text)
    with pytest.raises(InventoryError) as refused:
        load(file)
    assert f"{file}: {told}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_a_problem_of_the_inventory(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"none.yaml: \(file\): found no configuration: No such file or directory"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"pop:\n  name: \xff\n")
    with pytest.raises(InventoryError, match="is not UTF-8 text in line 2"):
        load(tmp_path / "latin.yaml")


def test_the_agents_file_is_read_where_its_certificates_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, _ = read_tree((samples.GOOD / "fleet.yaml").read_text(), "fleet.yaml")
    document: dict[str, Any] = dict(tree) if isinstance(tree, dict) else {}
    document["spi_plan"] = {"site": "example.net"}
    document["services"]["vpn"]["balancer"] = {"vips": ["198.51.100.1"]}
    file = tmp_path / "popctl.json"
    file.write_text(json.dumps(document))
    codes = (
        explain(inventory=file, source=str(CLIENT4), destination="198.51.100.1", spi_i="1"),
        compare(file, file),
        backend_config("vpn-1", inventory=file),
        doctor(inventory=file),
    )
    assert codes[:3] == (Exit.OK, Exit.OK, Exit.OK), capsys.readouterr().err
    assert codes[3] in (Exit.OK, Exit.PROBLEMS), capsys.readouterr().err


def test_every_key_of_the_documented_inventory_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "balancer.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "inventory.yaml").write_text(example)
    found = load(tmp_path / "inventory.yaml")
    (service,) = found.tables.services
    assert (found.pop, found.ids, service.seed) == (7, {"b0": 0}, 0x5EED0001)


def changed(directory: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the inventory with something changed."""
    document = yaml.safe_load(INVENTORY.read_text())
    change(document)
    file = directory / "other.yaml"
    file.write_text(json.dumps(document))  # which is YAML, too, and never has anchors
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


def test_two_pops_with_one_id_are_told_apart_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = "    prefixes: [198.51.100.0/24]\n"
    balancer = (service, f"{service}    balancer: {{vips: [198.51.100.1]}}\n")
    files = []
    for name in ("fra1", "ams1"):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(minimal(balancer, ("name: fra1", f"name: {name}"), tail="spi_plan: {site: example.net}\n"))
    assert compare(*files) == Exit.PROBLEMS
    told = "pop.id: 1 is 'fra1' here and 'ams1' there; ids are permanent: give the newer PoP a free one\n"
    assert capsys.readouterr().err == told


NARROW = {"site": "example.net", "pop_bits": 4, "backend_bits": 4, "sa_bits": 20, "esp_base": 0x10000000}


def half_labelled(directory: Path, plan: dict[str, Any]) -> Path:
    """Write an inventory whose b1 is not labelled."""

    def change(document: dict[str, Any]) -> None:
        document.update(spi_plan=plan, sizes={})
        document["backends"]["b1"]["labelled"] = False
        document["services"]["vpn"]["balancer"]["key"] = "source-ip"

    return changed(directory, change)


def test_a_backend_that_is_not_labelled_is_told_to_keep_out_of_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = half_labelled(tmp_path, NARROW)
    assert backend_config("b1", inventory=file, json=True) == Exit.OK
    told = dict(re.findall(r"(spi_\w+) = (0x\w+)", json.loads(capsys.readouterr().out)["settings"]))
    assert told == {
        "spi_mask": "0xffffffff00000000",
        "spi_label": "0xffffffff00000000",
        "spi_min": "0x20000000",
        "spi_max": "0xffffffff",
    }
    there = {"inventory": file, "source": str(CLIENT4), "destination": str(VIP4), "json": True}
    for packets in ({"spi_i": "1", "spi_r": told["spi_label"]}, {"esp": told["spi_min"]}, {"esp": told["spi_max"]}):
        assert explain(**there, **packets) == Exit.OK
        assert json.loads(capsys.readouterr().out)["reason"] == "source-hash"
    assert backend_config("b1", inventory=file, check=tmp_path / "vici") == Exit.USAGE
    assert capsys.readouterr().err == f"backends.b1.labelled: is false in {file}, so its SPIs follow no plan\n"


def test_a_plan_that_takes_all_of_esp_leaves_nothing_to_who_is_not_labelled(tmp_path: Path) -> None:
    file = half_labelled(tmp_path, {"site": "example.net"})
    with pytest.raises(InventoryError) as refused:
        load(file)
    assert str(refused.value) == (
        f"{file}: backends.b1.labelled: is false, and the plan takes all ESP SPIs: its ESP would be taken for that of "
        "others; label it, or let the plan leave some: fewer bits, or an esp_base"
    )
