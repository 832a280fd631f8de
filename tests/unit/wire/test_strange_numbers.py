"""Every reader of JSON, and every number in what it reads: whatever stands there, nothing but `WireError` leaves."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from popctl.model.balancer import SpiPlan
from popctl.model.capacity import Distrust, LoadMemory, LoadPolicy, LoadState
from popctl.model.damping import Penalty
from popctl.model.observation import Intent, IntentKind
from popctl.model.playbook import DEFAULT_LADDER, Flow, Level, Playbook, Step, StepKey
from popctl.model.pop import Announce
from popctl.model.route import RouteKey
from popctl.wire import (
    agent_api,
    agent_order,
    audit,
    audit_api,
    etcd,
    exabgp_api,
    intents_file,
    load_file,
    nft_text,
    playbook,
    registry,
    relay_api,
    sealed,
)
from popctl.wire.errors import WireError
from tests.unit.wire.strange_numbers import documents

if TYPE_CHECKING:
    from collections.abc import Callable

EXABGP = Path(__file__).parents[2] / "data" / "exabgp"
KEY = RouteKey(ip_address("192.0.2.1"), ip_network("198.51.100.0/24"))


def captured(name: str) -> list[str]:
    return (EXABGP / name).read_text().splitlines()


KV = {"key": "L2EveA==", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "aGk=", "lease": "12"}
ETCD = {
    "header": {"cluster_id": "6930", "member_id": "92", "revision": "2", "raft_term": "2"},
    "ID": "12",
    "TTL": "2",
    "result": {
        "header": {"revision": "2"},
        "TTL": "2",
        "events": [{"kv": KV}, {"type": "DELETE", "kv": {"key": "L2EveA==", "mod_revision": "3"}}],
        "compact_revision": "3",
    },
    "kvs": [KV],
    "responses": [{"response_range": {"header": {"revision": "2"}, "kvs": [KV]}}],
    "code": 5,
    "error": 7,
}
ETCD_TEXT = json.dumps({key: value for key, value in ETCD.items() if key != "error"})
ORDER = agent_order.Order(kind=IntentKind.WITHDRAW, target="vpn", reason="test", drain_s=60.0, expires_s=600.0)
INTENT = Intent(
    kind=IntentKind.WITHDRAW,
    target="vpn",
    reason="test",
    owner="me",
    created_unix_s=1.0,
    drain_s=60.0,
    expires_unix_s=900.0,
)
LOAD = LoadMemory(
    state=LoadState(level=1, since=5.0, distrusted=(Distrust(before=0, after=1, until=9.0, times=2),), ungated=(3.0,)),
    ledger={KEY: Penalty(750.0, 4.0)},
)
LEVEL = Level(name="transit depreferred", upstreams={1299: Announce.DEPREFERRED})
BOOK = Playbook(
    fleet="f",
    created_unix_s=1.0,
    ladders={"a": (DEFAULT_LADDER[0], LEVEL), "b": DEFAULT_LADDER},
    steps={
        StepKey("a", 0, 1): (Step(key=StepKey("a", 0, 1), flows=(Flow("a", "b", 0.25),), when={"b": 1}, error=0.1),)
    },
)
RECORD = registry.Record(
    pop=3,
    plan=SpiPlan(site="test"),
    ids=(registry.Tenure(id=1, name="b1"), registry.Tenure(id=2, name="b2", retired_unix_s=7.0)),
    marks=(registry.Place(1, 2, 3),),
)
WELCOME = {
    "type": "welcome",
    "protocol": 1,
    "exabgp": "5.0.15",
    "lease_s": 3.0,
    "withdrawn": {"192.0.2.2": ["198.51.100.0/24"]},
    "sessions": {
        "192.0.2.1": {
            "eor": ["ipv4 unicast"],
            "sent": {
                "198.51.100.0/24": {
                    "next_hop": "192.0.2.10",
                    "attribute": {
                        "med": 5,
                        "local-preference": 100,
                        "as-path": {"0": {"element": "as-sequence", "value": [65010]}},
                        "community": [[65000, 77]],
                        "large-community": [[65010, 1, 2]],
                    },
                }
            },
        }
    },
}
LISTING = {
    "nftables": [
        {"metainfo": {"json_schema_version": 1}},
        {"chain": {"name": "c", "hook": "prerouting", "prio": -300}},
        {"rule": {"chain": "c", "comment": "r"}},
        {"counter": {"name": "n", "packets": 4}},
        {
            "set": {
                "name": "s",
                "size": 5,
                "timeout": 60,
                "elem": [7, {"range": [1, 2]}, [3, {"jump": {"target": "c"}}], {"elem": {"val": 9, "timeout": 5}}],
            }
        },
    ]
}
AUDITED = {"unix_s": 5.0, "owner": "me", "action": "place", "kind": "drain", "targets": [1], "reason": 2, "after": [3]}


def _sealed(parts: tuple[str, ...], read: Callable[[bytes], object]) -> Callable[[str], object]:
    """Return a reader that comes past the checksum of a file: what it holds then is read as it stands.

    The checksum is of the one part that is named, or of an object of all that are.
    """

    def unseal(text: str) -> object:
        with suppress(ValueError):
            document: dict[str, Any] = json.loads(text)
            payload = {part: document[part] for part in parts}
            document["checksum"] = sealed.checksum(payload if len(parts) > 1 else payload[parts[0]])
            return read(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
        return read(text.encode())

    return unseal


def _bytes(read: Callable[[bytes], object]) -> Callable[[str], object]:
    return lambda text: read(text.encode())


READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "etcd granted": (_bytes(etcd.granted), ETCD_TEXT),
    "etcd seconds left": (_bytes(etcd.seconds_left), ETCD_TEXT),
    "etcd found": (_bytes(etcd.found), ETCD_TEXT),
    "etcd ended": (_bytes(etcd.ended), ETCD_TEXT),
    "etcd error": (_bytes(etcd.error), json.dumps(ETCD)),
    "etcd watch": (lambda text: list(etcd.WatchLines().feed(text.encode() + b"\n")), ETCD_TEXT),
    "exabgp neighbors": (
        lambda text: exabgp_api.neighbors([text]),
        captured("show_neighbor.jsonl")[0],
    ),
    "exabgp rib": (exabgp_api.rib_line, captured("adj_rib_out_v2.jsonl")[0]),
    "relay welcome": (_bytes(relay_api.message), json.dumps(WELCOME)),
    "relay answer": (
        _bytes(relay_api.message),
        '{"type":"answer","id":4,"result":"refused","lines":[5],"detail":6}',
    ),
    "relay lost": (_bytes(relay_api.message), '{"type":"lost","count":3}'),
    "order": (_bytes(agent_order.decode_order), agent_order.encode_order(ORDER).decode()),
    "answer": (
        lambda text: agent_api.decode(text.encode(), agent_api.Check),
        agent_api.encode(agent_api.Check(healthy=True, turning=True, connected=True, turned_s=1.5)).decode(),
    ),
    "intents": (_sealed(("intents",), intents_file.decode_state), intents_file.encode_state([INTENT]).decode()),
    "load": (
        _sealed(
            ("load",), lambda content: load_file.decode(content, DEFAULT_LADDER, LoadPolicy(), unix_s=9.0, now=9.0)
        ),
        load_file.encode(LOAD, DEFAULT_LADDER, unix_s=9.0, now=9.0).decode(),
    ),
    "registry": (
        _sealed(("pop", "plan", "marks", "ids"), registry.decode),
        registry.encode(RECORD).decode(),
    ),
    "playbook": (playbook.decode, playbook.encode(BOOK).decode()),
    "nft": (nft_text.parse_listing, json.dumps(LISTING)),
    "audit": (lambda text: audit_api.tail([text.encode() + b"\n"]), json.dumps(AUDITED)),
    "audit chain": (lambda text: audit.verify([text.encode() + b"\n"]), json.dumps(AUDITED | {"previous": 1})),
} | {f"exabgp event {number}": (exabgp_api.event, line) for number, line in enumerate(captured("events.jsonl"))}


@pytest.mark.parametrize("name", READERS)
def test_whatever_stands_where_a_number_should_only_wire_errors_leave(name: str) -> None:
    read, sample = READERS[name]
    read(sample)
    tried = 0
    for what, text in documents(sample):
        tried += 1
        with suppress(WireError):
            try:
                read(text)
            except WireError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave
                pytest.fail(f"{what}: {error!r}")
    assert tried
