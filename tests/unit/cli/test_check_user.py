"""`popctl check` by whoever runs it: what that user may not see is told as that, and not as something to remove."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from popctl.cli.check import check
from popctl.cli.exits import Exit
from popctl.config.ids import followed, record_path
from tests.unit.config.samples import minimal, parse_minimal

NOBODY = 65534
UNNAMED = 54321
"""A user id that no passwd file gives a name."""


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user for a while, as far as this user may."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.parametrize("on_corrupt", ["stay_out", "serve"])
def test_a_record_of_ids_that_this_user_may_not_read_is_nothing_to_remove(tmp_path: Path, on_corrupt: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    tail = f"paths: {{state_file: {folder}/state.json}}\nstate: {{on_corrupt: {on_corrupt}}}\n"
    pop = parse_minimal(tail=tail)
    record_path(pop).write_bytes(b"whatever it says")
    folder.chmod(0)
    try:
        with acting_as(NOBODY):
            problems = followed(pop, unix_s=0.0)[1]
    finally:
        folder.chmod(0o700)
    if on_corrupt == "serve":
        assert problems == (), "an agent that starts without state does not ask for it"
        return
    (problem,) = problems
    assert problem.problem == "the record of ids may not be read by this user (Permission denied)"
    assert problem.remedy == "run this as the agent's user or root; if it is the agent, let its user read the file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes a user without a name")
def test_a_user_without_a_name_is_a_problem_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    # Not below pytest's folders, which are closed to others.
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "popctl.yaml"
        file.write_text(minimal(tail=f"paths: {{state_file: {directory}/state.json}}\n"))
        # All that is imported on the way may be out of the sight of others, too.
        assert check(file) == Exit.OK
        with acting_as(UNNAMED):
            code = check(file)
    assert code == Exit.PROBLEMS
    assert capsys.readouterr().err == (
        f"{file}: (user): found {UNNAMED}: this user id has no name on this host, which ExaBGP asks for; "
        "remedy: run this as a user that the host knows\n"
    )
