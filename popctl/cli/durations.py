"""Durations as people write them: `90s`, `15m`, `1h30m`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_CLOCK = re.compile(r"\d{1,2}:\d{2}", re.ASCII)
_MINUTE_S = 60.0
_HOUR_S = 3600.0


def parse_duration(text: str) -> float:
    """Return seconds. A bare number is seconds.

    Raises:
        ValueError: it is no duration, or longer than a year.
    """
    plain = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII):
        seconds = float(plain)
    else:
        parts = _PART.findall(plain)
        if not parts or "".join(number + unit for number, unit in parts) != plain:
            raise ValueError(f"{text!r} is no duration; write 30s, 15m or 1h30m")
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds > 366 * _UNITS_S["d"]:
        raise ValueError(f"{text!r} is longer than a year")
    return seconds


def moment_of(text: str, now: datetime) -> float:
    """Return the unix time of a time of day (`06:00`, the next one after `now`) or a moment (`2026-05-01T06:00`).

    Without a zone it is a time of the zone of `now`, local time if that is naive. The zone says what that means on that
    day, not the difference to UTC that is in force now: a night in which clocks change is an hour longer or shorter.

    Raises:
        ValueError: it is neither, or is past.
    """
    plain = text.strip()
    try:
        if _CLOCK.fullmatch(plain):
            hour, minute = plain.split(":")
            today = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
            found: tuple[float, ...] = (*_told_twice(today), *_told_twice(today + timedelta(days=1)))
        else:
            moment = datetime.fromisoformat(plain)
            found = _told_twice(moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; write 06:00 or 2026-05-01T06:00") from None
    for unix_s in found:
        if unix_s > now.timestamp():
            return unix_s
    raise ValueError(f"{text!r} is past")


def _told_twice(moment: datetime) -> tuple[float, float]:
    """Return when clocks show this, first and last: an hour is told twice when they are set back."""
    first = moment.replace(fold=0).timestamp()
    # In an hour that is left out, the second reading comes first, and means nothing.
    return first, max(first, moment.replace(fold=1).timestamp())


def show_duration(seconds: float) -> str:
    """Return a short form for people: `0.4 s`, `8 s`, `14 m 5 s`, `2 h 3 m`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} m {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} m"
