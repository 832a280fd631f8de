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


def seconds_until(text: str, now: datetime) -> float:
    """Return seconds from `now` to a time of day (`06:00`, the next one) or a moment (`2026-05-01T06:00`).

    Without a zone it is local time, as `now` has it.

    Raises:
        ValueError: it is neither, or is past.
    """
    plain = text.strip()
    try:
        if _CLOCK.fullmatch(plain):
            hour, minute = plain.split(":")
            moment = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
            moment = moment if moment > now else moment + timedelta(days=1)
        else:
            moment = datetime.fromisoformat(plain)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 06:00 or 2026-05-01T06:00") from None
    left_s = (moment - now).total_seconds()
    if left_s <= 0:
        raise ValueError(f"{text!r} is past")
    return left_s


def show_duration(seconds: float) -> str:
    """Return a short form for people: `0.4 s`, `8 s`, `14 m 5 s`, `2 h 3 m`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} m {int(seconds % _MINUTE_S)} s"
    return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} m"
