"""What is read out of rows again and again, without numpy: the agent holds rows and never builds them.

Building them (`popctl.core.rendezvous`) happens once per configuration, in a process of its own, because numpy alone
would cost the agent a sixth of its memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.model.balancer import KERNEL_DEPTH, Rows

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_SLOTS = 256


def eligible(rows: Rows, number: int, usable: AbstractSet[int]) -> tuple[int, int] | None:
    """Return the first usable backend of a row and its rank, or None when none is usable."""
    return next(((b, rank) for rank, b in enumerate(rows.row(number)) if b in usable), None)


def packed(rows: Rows) -> list[int]:
    """Return each row's first four slots as a mark: the most preferred in the low byte."""
    if not rows.width:
        return []
    depth = min(rows.width, KERNEL_DEPTH)
    marks = bytearray(KERNEL_DEPTH * rows.count)
    for rank in range(depth):
        marks[rank::KERNEL_DEPTH] = rows.order[rank :: rows.width]
    view = memoryview(bytes(marks))
    return [int.from_bytes(view[at : at + KERNEL_DEPTH], "little") for at in range(0, len(marks), KERNEL_DEPTH)]


def rescue(rows: Rows, usable: AbstractSet[int]) -> dict[int, int]:
    """Return row -> slot for the rows whose first four backends are all unusable while a later one is usable.

    Empty until at least four backends are out at once, so that one flap stays one element.
    """
    if rows.width <= KERNEL_DEPTH or len(usable) > rows.width - KERNEL_DEPTH or not usable:
        return {}
    slots = {b + 1 for b in usable}
    found: dict[int, int] = {}
    for row in _lost(rows, slots):
        later = rows.order[row * rows.width + KERNEL_DEPTH : (row + 1) * rows.width]
        slot = next((slot for slot in later if slot in slots), None)
        if slot is not None:
            found[row] = slot
    return found


def _lost(rows: Rows, slots: AbstractSet[int]) -> list[int]:
    """Return the rows none of whose first four entries is usable."""
    good = bytes(slot in slots for slot in range(_SLOTS))
    any_good = 0
    for rank in range(KERNEL_DEPTH):
        # One column as one big number: `or` over all rows at once.
        any_good |= int.from_bytes(rows.order[rank :: rows.width].translate(good), "big")
    return [row for row, is_good in enumerate(any_good.to_bytes(rows.count, "big")) if not is_good]
