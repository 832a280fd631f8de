"""Secret files: what is accepted, and that nothing of a content is ever shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from popctl.config.errors import ConfigError
from popctl.config.load import load
from popctl.config.secret_files import SecretFileError, read_secret_file
from popctl.model.pop import Secret
from tests.unit.config.samples import minimal


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def config_with_md5(folder: Path, secret: Path) -> Path:
    path = folder / "pop.yaml"
    path.write_text(minimal(("    asn: 65000", f"    asn: 65000\n    md5_file: {secret}")))
    return path


def test_a_secret_is_the_one_line_of_its_file_without_the_line_end(tmp_path: Path) -> None:
    pop = load(config_with_md5(tmp_path, secret_file(tmp_path, b" a key; with #marks \n", 0o640)))
    assert pop.neighbors[0].md5 == Secret(" a key; with #marks ")


def test_a_carriage_return_belongs_to_the_line_end(tmp_path: Path) -> None:
    assert read_secret_file(secret_file(tmp_path, b"key\r\n")) == "key"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"hunter2\n", 0o644, "the secret file is open to every user (mode 0644)"),
        (b"hunter2\n", 0o602, "the secret file is open to every user (mode 0602)"),
        (b"", 0o600, "the secret file is empty"),
        (b" \n", 0o600, "the secret file is empty"),
        (b"hunter2\nhunter3\n", 0o600, "the secret file is not one line of printable text"),
        (b"hunter2\x00", 0o600, "the secret file is not one line of printable text"),
        (b"hunter2" * 600, 0o600, "the secret file is not one line of printable text"),
        (b"hunter2\xff\n", 0o600, "the secret file is not UTF-8 text"),
    ],
)
def test_a_bad_secret_file_is_named_with_its_problem(tmp_path: Path, content: bytes, mode: int, problem: str) -> None:
    secret = secret_file(tmp_path, content, mode)
    with pytest.raises(ConfigError) as caught:
        load(config_with_md5(tmp_path, secret))
    (found,) = caught.value.problems
    assert (found.path, found.found, found.problem) == ("neighbors[0].md5_file", str(secret), problem)
    assert "hunter" not in str(caught.value)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config_with_md5(tmp_path, tmp_path / "nothing"))
    assert str(caught.value) == (
        f"{tmp_path}/pop.yaml: neighbors[0].md5_file: found {tmp_path}/nothing: the secret file cannot be opened "
        "(No such file or directory); remedy: create it, readable by the agent's user only"
    )


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SecretFileError, match="is not a regular file"):
        read_secret_file(tmp_path / "fifo")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="is not a regular file"):
        read_secret_file(tmp_path)
