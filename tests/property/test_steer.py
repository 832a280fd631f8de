"""Hostile packets raise nothing but `WireError`; live SAs follow their label through all health and drain."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from popctl.core.affinity import Memory, remember
from popctl.core.steer import steer
from popctl.model.balancer import Affinity, HashKey, Steering, Tables, Unmatched
from popctl.model.reason import Reason
from popctl.wire import packet
from popctl.wire.errors import WireError
from popctl.wire.packet import ESP, UDP
from popctl.wire.pcap import ip_packets
from popctl.wire.spi import labels
from popctl.wire.spi_lint import lint_previous
from tests.balancers import CLIENT4, CLIENT6, VIP4, VIP6, esp_spi, rows, server_spi, tables
from tests.lb_corpus import Corpus
from tests.property.test_spi_plan import plans

BACKENDS = 6
backends = st.integers(0, BACKENDS - 1)
spis = st.binary(min_size=8, max_size=8).filter(any)


@st.composite
def states(draw: st.DrawFn) -> Tables:
    """Draw any configuration and health."""
    base = tables(
        BACKENDS,
        rows=rows(BACKENDS, size=256),
        key=draw(st.sampled_from(HashKey)),
        unlabelled=draw(st.sampled_from(Unmatched)),
        other=draw(st.sampled_from(Unmatched)),
        plain_l2tp=draw(st.booleans()),
        affinity=draw(st.sampled_from([None, Affinity()])),
    )
    subset = st.frozensets(backends)
    return replace(base, alive=draw(subset), draining=draw(subset))


@given(st.binary(max_size=120))
def test_random_bytes_raise_only_wire_errors(network: bytes) -> None:
    with suppress(WireError):
        steer(tables(2, rows=rows(2, size=64)), packet.parse(network), {})
    with suppress(WireError):
        list(ip_packets(network))
    with suppress(WireError):
        list(ip_packets(b"\xd4\xc3\xb2\xa1" + bytes(16) + b"\x01\x00\x00\x00" + network))


@given(states(), st.integers(0, 1 << 32), st.data())
@settings(deadline=None)
def test_hostile_packets_are_steered_or_dropped_for_a_reason(wanted: Tables, seed: int, data: st.DataObject) -> None:
    network = bytearray(Corpus(seed=seed, backends=BACKENDS + 2).one())
    for _ in range(data.draw(st.integers(0, 4))):
        network[data.draw(st.integers(0, len(network) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        steering = steer(wanted, packet.parse(bytes(network)), {})
        assert steering.rule
        assert steering.backend is None or steering.backend in range(BACKENDS)


@given(
    wanted=states(),
    backend=backends,
    client=spis,
    natt=st.booleans(),
    v6=st.booleans(),
    version=st.sampled_from([1, 2]),
    server_started=st.booleans(),
)
@settings(deadline=None)
def test_ike_of_a_live_sa_follows_its_label_whatever_health_says(
    *, wanted: Tables, backend: int, client: bytes, natt: bool, v6: bool, version: int, server_started: bool
) -> None:
    server = server_spi(backend)
    first, second = (server, client) if server_started else (client, server)
    header = packet.ike(first, second, version=version, initiator=not server_started)
    if version == 1 and int.from_bytes(second[:4], "big") in wanted.services[0].labels.ike and server_started:
        return  # a client whose random cookie is a label of ours: odds of one in 2**32 per backend
    payload = packet.udp(40000, 4500, bytes(4) + header) if natt else packet.udp(500, 500, header)
    source, vip = (CLIENT6, VIP6) if v6 else (CLIENT4, VIP4)
    steering = steer(wanted, packet.parse(packet.ip(source, vip, UDP, payload)), {})
    assert (steering.backend, steering.reason) == (backend, Reason.IKE_LABEL)


@given(wanted=states(), backend=backends, offset=st.integers(0, 65535), natt=st.booleans())
@settings(deadline=None)
def test_esp_of_a_live_sa_follows_its_slice_whatever_health_says(
    *, wanted: Tables, backend: int, offset: int, natt: bool
) -> None:
    body = packet.esp(esp_spi(backend, offset))
    protocol, payload = (UDP, packet.udp(40000, 4500, body)) if natt else (ESP, body)
    steering = steer(wanted, packet.parse(packet.ip(CLIENT4, VIP4, protocol, payload)), {})
    assert (steering.backend, steering.reason) == (backend, Reason.ESP_SLICE)


@given(data=st.data(), v6=st.booleans(), natt=st.booleans(), health=states())
@settings(deadline=None)
def test_an_sa_of_any_plan_in_force_follows_its_label(
    *, data: st.DataObject, v6: bool, natt: bool, health: Tables
) -> None:
    in_force = data.draw(st.lists(plans(), min_size=1, max_size=3, unique=True))
    assume(not lint_previous(in_force))
    pop = data.draw(st.integers(1, (1 << min(plan.pop_bits for plan in in_force)) - 1))
    whole = tables(
        BACKENDS, rows=rows(BACKENDS, size=256), labels=labels(in_force[0], pop, range(BACKENDS), in_force[1:])
    )
    wanted = replace(whole, alive=health.alive, draining=health.draining)
    plan, source, vip = data.draw(st.sampled_from(in_force)), *((CLIENT6, VIP6) if v6 else (CLIENT4, VIP4))
    backend = data.draw(st.integers(0, min(BACKENDS, 1 << plan.backend_bits) - 1))

    server, port = server_spi(backend, pop=pop, plan=plan), 4500 if natt else 500
    message = bytes(4 if natt else 0) + packet.ike(bytes(range(8)), server, version=2, initiator=True)
    steering = steer(wanted, packet.parse(packet.ip(source, vip, UDP, packet.udp(40000, port, message))), {})
    assert (steering.backend, steering.reason) == (backend, Reason.IKE_LABEL)

    offset = data.draw(st.integers(0, (1 << plan.sa_bits) - 1))
    body = packet.esp(esp_spi(backend, offset, pop=pop, plan=plan))
    protocol, payload = (UDP, packet.udp(40000, 4500, body)) if natt else (ESP, body)
    steering = steer(wanted, packet.parse(packet.ip(source, vip, protocol, payload)), {})
    assert (steering.backend, steering.reason) == (backend, Reason.ESP_SLICE)


@given(
    backend=backends,
    cookie=spis,
    port=st.integers(1, 65535),
    native=st.booleans(),
    drains=st.frozensets(backends),
)
@settings(deadline=None)
def test_reauthentication_goes_back_to_the_backend_of_the_last_labelled_packet(
    *, backend: int, cookie: bytes, port: int, native: bool, drains: frozenset[int]
) -> None:
    wanted = replace(tables(BACKENDS, rows=rows(BACKENDS, size=256)), draining=drains)
    body = packet.esp(esp_spi(backend))
    labelled = packet.ip(CLIENT4, VIP4, *((ESP, body) if native else (UDP, packet.udp(port, 4500, body))))
    first = packet.ike(cookie, bytes(8), version=1)
    again = packet.udp(500, 500, first) if native else packet.udp(port, 4500, bytes(4) + first)
    memory = remember({}, steer(wanted, packet.parse(labelled), {}).learns)
    steering = steer(wanted, packet.parse(packet.ip(CLIENT4, VIP4, UDP, again)), memory)
    assert (steering.backend, steering.reason) == (backend, Reason.AFFINITY)


@given(backend=backends, port=st.integers(1, 65535), v6=st.booleans())
@settings(deadline=None)
def test_a_keepalive_keeps_a_known_client_remembered_where_it_is_and_teaches_of_no_other(
    *, backend: int, port: int, v6: bool
) -> None:
    wanted = tables(BACKENDS, rows=rows(BACKENDS, size=256))
    source, vip = (CLIENT6, VIP6) if v6 else (CLIENT4, VIP4)

    def sent(body: bytes, memory: Memory) -> Steering:
        return steer(wanted, packet.parse(packet.ip(source, vip, UDP, packet.udp(port, 4500, body))), memory)

    assert (sent(b"\xff", {}).reason, sent(b"\xff", {}).learns) == (Reason.KEEPALIVE, ())
    taught = sent(packet.esp(esp_spi(backend)), {}).learns
    steering = sent(b"\xff", remember({}, taught))
    assert (steering.backend, steering.reason) == (backend, Reason.AFFINITY)
    assert steering.learns == taught


@given(spis, backends)
@settings(deadline=None)
def test_a_flap_moves_only_the_share_of_that_backend(spi: bytes, flapped: int) -> None:
    before = tables(BACKENDS, rows=rows(BACKENDS, size=256))
    after = replace(before, alive=before.alive - {flapped})
    network = packet.parse(packet.ip(CLIENT4, VIP4, UDP, packet.udp(500, 500, packet.ike(spi, bytes(8)))))
    first, second = steer(before, network, {}).backend, steer(after, network, {}).backend
    assert (first != second) == (first == flapped)
