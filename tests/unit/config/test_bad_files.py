"""One file per mistake in tests/data/config/bad, and beside each the exact message."""

from __future__ import annotations

from pathlib import Path

import pytest

from popctl.config.errors import ConfigError
from tests.unit.config.samples import BAD, SECRETS, parse_file

FILES = sorted(BAD.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bad_file_gives_exactly_its_message(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_file(path)
    assert f"{caught.value}\n" == path.with_suffix(".txt").read_text()


def test_every_bad_file_has_a_message_and_every_message_a_file() -> None:
    assert {path.stem for path in FILES} == {path.stem for path in BAD.glob("*.txt")}
    assert len(FILES) > 90


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_message_shows_a_secret(path: Path) -> None:
    """`hunter2` stands where people put secrets by mistake: under an unknown key, in a URL, instead of a file."""
    message = path.with_suffix(".txt").read_text()
    assert not any(secret in message for secret in ("hunter2", *SECRETS.values()))


def test_problems_of_shape_and_of_meaning_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_file(BAD / "several-at-once.yaml")
    paths = [problem.path for problem in caught.value.problems]
    assert {"pop.id", "timing.warm_up"} <= set(paths)  # shape
    assert {"services.vpn.prefixes[0]", "backends[1].address"} <= set(paths)  # meaning
    assert len(paths) == 9
