"""What may be called done: truth tables over answers of the agent."""

from __future__ import annotations

import pytest

from popctl.cli.progress import missing, standing_against
from popctl.wire.agent_api import IntentStatus, PopIdentity, RouteStatus, ServiceStatus, Status

VPN = frozenset(("vpn",))


def route(state: str) -> RouteStatus:
    return RouteStatus(neighbor="192.0.2.1", prefix="198.51.100.0/24", wanted=True, carried=True, state=state)


def status(announce: str, *states: str, connected: bool = True, ordered_out: tuple[str, ...] = ()) -> Status:
    service = ServiceStatus(
        name="vpn",
        announce=announce,
        reason="healthy",
        healthy=2,
        unknown=0,
        needed=1,
        until_s=None,
        routes=tuple(route(state) for state in states),
    )
    return Status(
        pop=PopIdentity(id=1, name="pop1", location="x", asn=65010, router_id="192.0.2.10"),
        version="1",
        uptime_s=1.0,
        config_digest="x",
        connected=connected,
        inherited=True,
        state_corrupt=False,
        stopping=False,
        turned_s=0.0,
        sessions=(),
        services=(service,),
        backends=(),
        intents=tuple(
            IntentStatus(kind="withdraw", target=name, reason="x", owner="x", created_unix_s=0.0, drain_left_s=0.0)
            for name in ordered_out
        ),
    )


@pytest.mark.parametrize(
    ("announce", "states", "done"),
    [
        ("withdrawn", ("proven", "proven"), True),
        ("withdrawn", ("proven", "session-down"), True),
        ("withdrawn", ("session-down",), True),
        ("withdrawn", ("proven", "pending"), False),
        ("withdrawn", ("failed",), False),
        ("withdrawn", ("unknown",), False),
        ("withdrawn", ("something new",), False),
        ("graceful-shutdown", ("proven",), False),
        ("normal", ("proven",), False),
    ],
)
def test_withdraw_is_done_when_every_session_is_proven_or_down(
    announce: str, states: tuple[str, ...], *, done: bool
) -> None:
    assert (missing(status(announce, *states), VPN, announced=False) == ()) is done


@pytest.mark.parametrize(
    ("announce", "states", "done"),
    [
        ("normal", ("proven", "proven"), True),
        ("depreferred", ("proven",), True),
        ("normal", ("proven", "session-down"), True),
        ("normal", ("session-down",), False),
        ("normal", (), False),
        ("normal", ("proven", "pending"), False),
        ("graceful-shutdown", ("proven",), False),
        ("withdrawn", ("proven",), False),
    ],
)
def test_announce_is_done_when_some_session_is_proven_and_no_other_is_late(
    announce: str, states: tuple[str, ...], *, done: bool
) -> None:
    assert (missing(status(announce, *states), VPN, announced=True) == ()) is done


@pytest.mark.parametrize("announced", [True, False])
def test_nothing_is_done_while_exabgp_is_not_connected(*, announced: bool) -> None:
    for announce in ("normal", "withdrawn"):
        assert missing(status(announce, "proven", connected=False), VPN, announced=announced)


def test_order_that_somebody_overruled_is_noticed() -> None:
    assert standing_against(status("normal"), VPN, announced=False) == ("vpn",)
    assert standing_against(status("normal", ordered_out=("vpn",)), VPN, announced=False) == ()
    assert standing_against(status("normal", ordered_out=("vpn",)), VPN, announced=True) == ("vpn",)
    assert standing_against(status("normal"), VPN, announced=True) == ()
