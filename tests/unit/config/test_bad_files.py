"""One file per mistake in tests/data/config/bad, and beside each the exact message."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from popctl.config import kept_files
from popctl.config.errors import ConfigError
from popctl.model.pop import Paths
from tests.unit.config.samples import BAD, ROOT, SECRETS, parse_file, parse_minimal

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
    """They stand where people put secrets by mistake: under an unknown key, in a URL, instead of a file."""
    message = path.with_suffix(".txt").read_text()
    assert not any(secret in message for secret in ("hunter2", "S3cret", *SECRETS.values()))


def test_problems_of_shape_and_of_meaning_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_file(BAD / "several-at-once.yaml")
    paths = [problem.path for problem in caught.value.problems]
    assert {"pop.id", "timing.warm_up"} <= set(paths)  # shape
    assert {"services.vpn.prefixes[0]", "backends[1].address"} <= set(paths)  # meaning
    assert len(paths) == 9


NAMED = {key: Path(f"/d/{key}") for key in ("relay_socket", "api_socket", "state_file", "journal")}
KEPT = tuple(kept_files.everything(Paths(**NAMED)))
PAIRS = [(key, kept.path) for key in NAMED for kept in KEPT if key != kept.key]
"""A key, and a file that follows from another one."""


def places_told(paths: Mapping[str, Path], tail: str = "") -> set[str]:
    """Return where the problems are of a configuration with these paths."""
    written = ", ".join(f"{key}: {path}" for key, path in paths.items())
    try:
        parse_minimal(tail=f"paths: {{{written}}}\n{tail}")
    except ConfigError as error:
        return {problem.path for problem in error.problems}
    return set()


def test_named_apart_all_that_is_kept_is_no_problem() -> None:
    assert places_told(NAMED) == set()
    assert len({kept.path for kept in KEPT}) == len(KEPT)


@pytest.mark.parametrize(("key", "path"), PAIRS, ids=str)
def test_no_key_names_a_file_that_follows_from_another(key: str, path: Path) -> None:
    """A journal moves files aside, a socket removes them, an order replaces them: others would be gone."""
    told = places_told(NAMED | {key: path})
    assert told
    assert told <= {"paths.relay_socket", "paths.api_socket", "paths.state_file", "paths.journal"}


@pytest.mark.parametrize("path", [kept.path for kept in KEPT], ids=str)
def test_no_file_that_is_only_read_is_written_over(path: Path) -> None:
    files = f"certificate: /etc/api.pem, key: {path}, client_ca: /etc/ca.pem"
    api = f'api: {{address: 192.0.2.10, port: 8443, {files}, operate: ["cn:alice"]}}\n'
    assert places_told(NAMED, api) == {"api.key"}


def test_every_store_of_the_agent_is_in_the_list() -> None:
    stores = sorted((ROOT / "popctl" / "agent").glob("*_store.py"))
    names = {importlib.import_module(f"popctl.agent.{store.stem}").FILE for store in stores}
    assert kept_files.LOAD in names
    assert names <= {kept.path.name for kept in KEPT}, "name it in popctl/config/kept_files.py"
