"""What a new configuration costs a running agent."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from popctl.config.diff import Change, diff
from popctl.model.pop import Pop
from tests.unit.config.samples import EXAMPLE, parse_file, parse_minimal

OLD = parse_minimal()
NOTHING = Change(
    moved=(),
    speaker_restart=(),
    sessions=(),
    dropped_prefixes=(),
    dropped_services=(),
    dropped_backends=(),
    moved_ids=(),
)


@pytest.mark.parametrize("pop", [OLD, parse_file(EXAMPLE)], ids=["minimal", "example"])
def test_equal_configurations_differ_in_nothing(pop: Pop) -> None:
    assert diff(pop, pop) == NOTHING
    assert not list(NOTHING.costs())


@pytest.mark.parametrize(
    ("where", "new"),
    [
        ("service", "minimum_healthy: 2"),
        ("attributes", "attributes: {depreferred: {med: 500}}"),
    ],
)
def test_services_and_attributes_change_live(where: str, new: str) -> None:
    if where == "attributes":
        pop = parse_minimal(("    asn: 65000", f"    asn: 65000\n    {new}"))
    else:
        pop = parse_minimal(("    prefixes: [198.51.100.0/24]", f"    prefixes: [198.51.100.0/24]\n    {new}"))
    assert pop != OLD
    assert diff(OLD, pop) == NOTHING


def test_a_new_backend_and_another_timing_change_live() -> None:
    added = "  - {id: 3, name: vpn-3, address: 10.0.0.3, probes: vpn}\nprobes:\n"
    pop = parse_minimal(("probes:\n", added), tail="timing: {warm_up: 20s}\n")
    assert 3 in pop.backends
    assert diff(OLD, pop) == NOTHING


def test_a_changed_session_needs_a_restart_of_exabgp() -> None:
    change = diff(OLD, parse_minimal(("    asn: 65000", "    asn: 65000\n    hold_time: 30s")))
    assert change.sessions == (ip_address("192.0.2.1"),)
    (cost,) = change.costs()
    assert cost.startswith("neighbors, 192.0.2.1: the relay reads it at its start only")


def test_neighbors_that_come_and_go_need_a_restart_of_exabgp() -> None:
    change = diff(OLD, parse_minimal(("address: 192.0.2.1\n", "address: 192.0.2.2\n")))
    assert change.sessions == (ip_address("192.0.2.1"), ip_address("192.0.2.2"))


def test_the_allowlist_and_the_lease_need_a_restart_of_the_relay() -> None:
    change = diff(
        OLD,
        parse_minimal(
            ("next_hops: [192.0.2.10]", "next_hops: [192.0.2.10, 192.0.2.11]"), tail="lease: {duration: 5s}\n"
        ),
    )
    assert change.speaker_restart == ("allowlist", "lease")


def test_what_others_know_the_agent_by_is_a_cost_and_what_it_alone_reads_is_none() -> None:
    tail = "paths: {journal: null, state_file: /srv/state.json}\n"
    change = diff(OLD, parse_minimal(("  id: 1", "  id: 2"), tail=tail))
    assert change.moved == ("pop.id", "paths.state_file")
    assert [cost.partition(":")[0] for cost in change.costs()] == ["pop.id", "paths.state_file"]
    assert diff(OLD, parse_minimal(tail="paths: {journal: null}\n")) == NOTHING


def test_who_may_come_in_from_elsewhere_changes_live() -> None:
    files = "certificate: /etc/api.pem, key: /etc/api.key, client_ca: /etc/ca.pem"
    api = f'api: {{address: 192.0.2.10, port: 8443, {files}, operate: ["cn:%s"]}}\n'
    alice, bob = (parse_minimal(tail=api % name) for name in ("alice", "bob"))
    assert alice.remote_api != bob.remote_api
    assert diff(alice, bob) == diff(OLD, alice) == NOTHING


def test_every_cost_is_a_line() -> None:
    every = Change(
        moved=("pop.id", "pop.name", "paths.api_socket", "paths.state_file"),
        speaker_restart=("pop.asn", "paths.relay_socket"),
        sessions=(ip_address("192.0.2.1"),),
        dropped_prefixes=(ip_network("198.51.100.0/24"),),
        dropped_services=("vpn",),
        dropped_backends=("vpn-2",),
        moved_ids=(2,),
    )
    lines = list(every.costs())
    assert len(lines) == len(set(lines)) == 11
    assert all(line.isprintable() for line in lines)


def test_a_dropped_prefix_is_an_orphan_exactly_while_it_is_announced() -> None:
    new = parse_minimal(
        ("  vpn:\n    prefixes: [198.51.100.0/24]", "  web:\n    prefixes: [203.0.113.0/24]"),
        ("  prefixes: [198.51.100.0/24]\n  next", "  prefixes: [203.0.113.0/24]\n  next"),
    )
    change = diff(OLD, new)
    prefix = ip_network("198.51.100.0/24")
    assert change.dropped_services == ("vpn",)
    (orphan,) = change.orphans({prefix})
    assert (orphan.path, orphan.found) == ("services", "no service with 198.51.100.0/24")
    assert change.orphans(()) == ()


def test_a_prefix_that_moves_to_another_service_is_no_orphan() -> None:
    change = diff(OLD, parse_minimal(("  vpn:\n    prefixes", "  web:\n    prefixes")))
    assert change.dropped_prefixes == ()
    assert change.dropped_services == ("vpn",)


def test_a_backend_id_with_another_address_strands_live_sas() -> None:
    change = diff(OLD, parse_minimal(("address: 10.0.0.2", "address: 10.0.0.9")))
    assert change.moved_ids == (2,)
    assert change.dropped_backends == ()


def test_a_renamed_backend_would_lose_its_drain() -> None:
    change = diff(OLD, parse_minimal(("name: vpn-2", "name: vpn-9")))
    assert change.dropped_backends == ("vpn-2",)
    assert change.moved_ids == ()
