"""Durations as people write them."""

from __future__ import annotations

import pytest

from popctl.cli.durations import parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("30", 30), ("1.5", 1.5), ("30s", 30), ("15m", 900), ("1h30m", 5400), (" 2d ", 172800), ("0.3s", 0.3)],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5s", "5 m", "5x", "1e3", "inf", "nan", "٣s", "400d", "5m5", "5s\n5"])
def test_what_is_no_duration_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 30s, 15m or 1h30m|longer than a year"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (8.4, "8 s"), (65, "1 m 5 s"), (3599, "59 m 59 s"), (7400, "2 h 3 m")]
)
def test_duration_is_shown_short(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
