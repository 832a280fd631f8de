"""Progress bars: on a terminal they count, elsewhere they say nothing; what is watched passes either way."""

from __future__ import annotations

import pytest

from popctl.cli.bars import watched


def test_a_terminal_sees_how_many_of_the_expected_have_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert list(watched(iter("abcd"), 4, "weighing")) == ["a", "b", "c", "d"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "weighing" in err
    assert "100%" in err


def test_a_pipe_sees_nothing_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert list(watched([1, 2], 2)) == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == ""
