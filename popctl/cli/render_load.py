"""Steering by load as text for people. Shows; judges nothing."""

from __future__ import annotations

from collections.abc import Iterator

from popctl.cli.durations import show_duration
from popctl.wire.load_api import ClassStatus, LandingStatus, LoadStatus, MeterStatus, PlaybookStatus, ReceiverStatus


def load_lines(load: LoadStatus) -> Iterator[str]:
    """Yield where the PoP stands on its ladder of levels, then what speaks."""
    reason = f" ({load.reason})" if load.reason else ""
    until = "" if load.until_s is None else f", looked at again in {show_duration(load.until_s)}"
    settling = ", the last step is not verified yet" if load.settling else ""
    yield f"load {_full(load)}; level {load.level} of {load.levels - 1}, {load.name}{reason}{settling}{until}"
    for one in load.penalties:
        if one.value >= 1.0:
            yield f"flap damping: AS {one.asn} may keep a penalty of {one.value:.0f}, steps stay below {one.limit:.0f}"
    if load.playbook is not None:
        yield from _playbook(load.playbook)


def _full(load: LoadStatus) -> str:
    if not load.resource:
        return f"unknown ({load.missing})" if load.missing else "unlimited"
    share = "without any room" if load.full is None else f"{load.full:.0%}"
    more = f" or more ({load.missing})" if load.missing else ""
    return f"{load.resource} {share}{more}"


def _playbook(book: PlaybookStatus) -> Iterator[str]:
    if book.age_s is None:
        yield "playbook: none in force"
    else:
        yield f"playbook of fleet {book.fleet}, made {show_duration(book.age_s)} ago"
    if book.problem:
        yield f"playbook: {book.problem}"


def meter_lines(backend: str, meter: MeterStatus) -> Iterator[str]:
    """Yield what a backend carries, by whom, and what looks like overload."""
    if meter.heard_s is None:
        yield f"meter of {backend}: never heard"
        return
    age = f"heard {show_duration(meter.heard_s)} ago"
    sessions = next(
        (f"{one.used:.0f} sessions" for one in meter.used if one.resource == "sessions"), "sessions unknown"
    )
    yield f"meter of {backend}: {sessions}, {_class('interactive', meter.interactive)}, {_bulk(meter)}; {age}"
    if meter.symptoms:
        yield f"symptoms of overload at {backend}: {', '.join(meter.symptoms)}"


def _bulk(meter: MeterStatus) -> str:
    moved = sum(one.bit_s for one in (meter.interactive, meter.bulk) if one is not None)
    share = f" ({meter.bulk.bit_s / moved:.0%} of it)" if meter.bulk is not None and moved else ""
    return _class("bulk", meter.bulk) + share


def _class(name: str, one: ClassStatus | None) -> str:
    return f"{name} unknown" if one is None else f"{one.sessions} {name} with {one.bit_s / 1e6:.1f} Mbit/s"


def landing_lines(landing: LandingStatus) -> Iterator[str]:
    """Yield where the load of a PoP would go."""
    if landing.problem:
        yield f"where the load would land is not known: {landing.problem}"
        return
    if not landing.receivers:
        yield "no other PoP would get any of the load"
    for one in landing.receivers:
        yield _receiver(one)
    if landing.unreached >= 1.0:
        yield f"  {landing.unreached:.0f} sessions would reach no PoP"


def _receiver(one: ReceiverStatus) -> str:
    full = "without any room" if one.full_after is None else f"{one.full_after:.0%} full"
    over = ", PAST ITS WATERMARK" if one.over else ""
    return f"  {one.pop}: {one.sessions_before:.0f} -> {one.sessions_after:.0f} sessions, {full}{over}"
