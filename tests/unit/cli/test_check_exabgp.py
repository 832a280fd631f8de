"""`popctl check` on hosts with another ExaBGP, or none: the generated files are judged, or the check says why not."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.unit.cli.command_line import Ended, ended, popctl

CHECKOUT = Path(__file__).parents[3]
GOOD = Path("tests/data/config/good/minimal.yaml")
USER = pwd.getpwuid(os.geteuid()).pw_name
REMEDY = "remedy: install exabgp>=5.0.14,<6"


def packages_but_exabgp(directory: Path) -> Path:
    """Make a folder with all that is installed here, except ExaBGP."""
    installed = Path(str(distribution("exabgp").locate_file("")))
    directory.mkdir()
    for package in installed.iterdir():
        if not package.name.startswith("exabgp"):
            (directory / package.name).symlink_to(package)
    return directory


def program(directory: Path, text: str) -> Path:
    """Put a program `exabgp` of this text into a folder of its own."""
    directory.mkdir(exist_ok=True)
    path = directory / "exabgp"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return directory


async def check_without_exabgp(directory: Path, *words: str, path: Path) -> Ended:
    """Run the command line where no Python package is ExaBGP; `path` is where programs are looked for."""
    packages = packages_but_exabgp(directory / "packages")
    environment = {"PATH": str(path), "PYTHONPATH": f"{CHECKOUT}:{packages}", "NO_COLOR": "1"}
    # -S: without the packages of this very Python.
    command = (sys.executable, "-S", "-m", "popctl.cli.main", "check", str(GOOD), *words)
    return await ended(await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment))


async def test_where_there_is_no_exabgp_the_check_fails_and_says_what_to_install(tmp_path: Path) -> None:
    result = await check_without_exabgp(tmp_path, path=tmp_path / "nowhere")
    assert (result.code, result.out) == (1, "")
    assert result.err == f"{GOOD}: (exabgp): found exabgp: not found on PATH; {REMEDY}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo 'ExaBGP : 4.2.25'", "is version 4.2.25"),
        ("echo 'ExaBGP : 5.0.13'", "is version 5.0.13"),
        ("echo 'ExaBGP : 6.0.0'", "is version 6.0.0"),
        ("echo 'Segmentation fault'; exit 139", "tells no version"),
    ],
)
async def test_an_exabgp_of_another_line_is_not_asked_and_nothing_is_written(
    tmp_path: Path, text: str, problem: str
) -> None:
    path, out = program(tmp_path / "bin", text), tmp_path / "out"
    result = await check_without_exabgp(tmp_path, "--write", str(out), "--user", USER, path=path)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"{GOOD}: (exabgp): found {path}/exabgp: {problem}; {REMEDY}\n"
    assert not out.exists()


async def test_what_exabgp_refuses_is_a_problem_in_its_own_words_and_nothing_is_written(tmp_path: Path) -> None:
    """It is given the very files: the stand-in complains of a line that it reads in the configuration."""
    text = "if [ $1 = version ]; then echo 'ExaBGP : 5.0.15'; exit; fi; grep -m 1 local-as $4; exit 1"
    path, out = program(tmp_path / "bin", text), tmp_path / "out"
    environment = f"{path}:{os.environ['PATH']}"
    words = ("--write", str(out), "--user", USER, "--json")
    result = await check_without_exabgp(tmp_path, *words, path=Path(environment))
    assert (result.code, result.json["ok"], result.json["written"]) == (1, False, [])
    (problem,) = result.json["problems"]
    assert (problem["path"], problem["problem"]) == ("(exabgp validate)", "ExaBGP refuses it")
    assert problem["found"].startswith("local-as 650")
    assert "report it" in problem["remedy"]
    assert not out.exists()


async def test_the_exabgp_beside_popctl_is_asked_whatever_is_on_the_path(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "echo 'ExaBGP : 4.2.25'")
    result = await popctl("check", str(GOOD), environment={"PATH": f"{path}:{os.environ['PATH']}"})
    assert (result.code, result.err) == (0, "")
