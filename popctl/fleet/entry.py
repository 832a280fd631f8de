"""Bytes in a store to an entry of the ledger."""

from __future__ import annotations

import structlog

from popctl.fleet.line import Entry
from popctl.model.instant import Instant
from popctl.wire.errors import WireError
from popctl.wire.fleet_record import decode_record

_LOG = structlog.get_logger(__name__)


def entry_of(content: bytes, created: int, modified: int, now: Instant) -> Entry:
    """Read a record. One that cannot be read stays an entry that nobody counts on, and does not disturb the others."""
    try:
        return Entry(record=decode_record(content, now), created=created, modified=modified)
    except WireError as error:
        _LOG.warning("a record in the fleet's store cannot be read", error=str(error))
        return Entry(record=None, created=created, modified=modified)
