"""What the refusals of a gateway mean for a probe: one place for all of IKE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.exchange import Turn, Verdict
from popctl.wire.ike import v1, v2
from popctl.wire.ike.message import NO_SPI

if TYPE_CHECKING:
    from collections.abc import Iterable

    from popctl.wire.ike.message import Payload

_SPI_BYTES = 8
_ONE = bytes(7) + b"\1"
LEAKED = Turn(verdict=Verdict(Outcome.FAIL, Reason.LEAKED, "the offer was accepted: a half-open SA stays behind"))
"""A liveness question was answered as if it were a client."""


def fresh_spi(seed: bytes) -> bytes:
    """Return the first eight bytes of `seed` as our SPI, which is never zero (RFC 7296 section 3.1)."""
    spi = seed[:_SPI_BYTES]
    return spi if spi != NO_SPI else _ONE


def failed(detail: str, reason: Reason = Reason.WRONG_ANSWER) -> Verdict:
    """Return a FAIL."""
    return Verdict(Outcome.FAIL, reason, detail)


def refusal_v2(found: Iterable[v2.Notify]) -> Verdict:
    """Judge an answer that is not the wanted one by its first error notification."""
    for notify in found:
        if notify.type < v2.FIRST_STATUS_TYPE:
            is_auth = notify.type == v2.NotifyType.AUTHENTICATION_FAILED
            return failed(notify.name, Reason.AUTHENTICATION_FAILED if is_auth else Reason.WRONG_ANSWER)
    return failed("neither what was asked for nor an error")


_ABOUT_KEYS_V1 = frozenset(
    {
        v1.NotifyType.AUTHENTICATION_FAILED,
        v1.NotifyType.INVALID_HASH_INFORMATION,
        v1.NotifyType.INVALID_ID_INFORMATION,
    }
)


def refusal_v1(
    payloads: Iterable[Payload], cookie: bytes, about_keys: frozenset[v1.NotifyType] = _ABOUT_KEYS_V1
) -> Verdict | None:
    """Judge an Informational message by its first error notification, None when it has none for our SA."""
    for payload in payloads:
        if payload.type == v1.Kind.NOTIFICATION:
            notification = v1.decode_notification(payload.body)
            foreign = notification.spi and notification.spi[:_SPI_BYTES] != cookie
            if notification.type < v2.FIRST_STATUS_TYPE and not foreign:
                is_auth = notification.type in about_keys
                return failed(notification.name, Reason.AUTHENTICATION_FAILED if is_auth else Reason.WRONG_ANSWER)
    return None
