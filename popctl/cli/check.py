"""`popctl check`: a configuration, and what it generates, judged before any agent or ExaBGP sees it."""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, printable, write_json

if TYPE_CHECKING:
    from popctl.bgp.render import Installation
    from popctl.config.errors import Problem
    from popctl.model.pop import Pop

# Only this command reads configurations and speaks to ExaBGP's tools; their imports, pydantic above all, stand inside
# the functions, or every other command would pay for them.

DEFAULT_DIRECTORY = Path("/etc/popctl/exabgp")
_TOLD_LINES = 5
"""The last lines of what ExaBGP says; the ones before are where in its own code it says so."""


def check(
    file: Path,
    /,
    *,
    write: Annotated[Path | None, Parameter(name="--write")] = None,
    user: str = "popctl",
    json: AsJson = False,
) -> int:
    """Check a configuration file, every problem at once, and let ExaBGP judge what is generated from it.

    A warning says what a setting breaks that may be wanted all the same; it is no problem, and the exit code is 0.

    Parameters
    ----------
    file
        The configuration file.
    write
        Folder for what ExaBGP and the relay need: exabgp.conf (mode 0600), exabgp.ini, exabgp.env, relay.json.
        Written only when there is no problem.
    user
        User that ExaBGP runs as; exabgp.conf will be that user's. Only root can write it for somebody else.
    """
    from popctl.config.errors import ConfigError  # noqa: PLC0415
    from popctl.config.lint import lint  # noqa: PLC0415
    from popctl.config.load import load  # noqa: PLC0415

    try:
        pop = load(file)
    except ConfigError as error:
        return _say(file, error.problems, (), (), as_json=json)
    problems, files = _generate(pop, write or DEFAULT_DIRECTORY, user)
    # Only a host that ran it has a record; elsewhere there is nothing to contradict.
    problems = (*_ids(pop), *problems, *_playbook(pop))
    owner: Owner | None = None
    if write is not None:
        owner, refusals = owner_of(user)
        problems = (*problems, *refusals)
    written: tuple[Path, ...] = ()
    if write is not None and not problems:
        try:
            written = tuple(_write(write, files, owner))
        except OSError as error:
            problems = (_problem(str(write), str(error), "cannot be written", "name a folder that can be written"),)
    return _say(file, problems, lint(pop), written, as_json=json)


def _ids(pop: Pop) -> tuple[Problem, ...]:
    from popctl.config.ids import followed  # noqa: PLC0415

    return followed(pop, unix_s=time.time())[1]


def _playbook(pop: Pop) -> Iterator[Problem]:
    from popctl.config import playbook_check  # noqa: PLC0415

    if pop.load is None or pop.load.playbook is None:
        return
    try:
        content = pop.load.playbook.read_bytes()
    except OSError as error:
        yield playbook_check.unreadable(pop.load.playbook, error)
        return
    problem = playbook_check.judge(content, pop, unix_s=time.time())[1]
    if problem is not None:
        yield problem


def _generate(pop: Pop, directory: Path, user: str) -> tuple[tuple[Problem, ...], Mapping[str, str]]:
    from popctl.bgp import render, validate  # noqa: PLC0415
    from popctl.bgp.errors import ExaBgpMissingError  # noqa: PLC0415

    try:
        # ExaBGP insists that the user exists, which says nothing about a configuration that is checked elsewhere.
        user_here = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        what = "this user id has no name on this host, which ExaBGP asks for"
        return (_problem("(user)", str(os.geteuid()), what, "run this as a user that the host knows"),), {}
    try:
        installation = _installation(directory, user)
        files = render.render(pop, installation)
        judged = render.render(pop, replace(installation, user=user_here))
        complaints = validate.validate(judged, _exabgp())
    except render.RenderError as error:
        remedy = "change the configuration or the folder; see docs/configuration.md"
        return (_problem(error.where, "valid so far", error.problem, remedy),), {}
    except ExaBgpMissingError as error:
        return (_problem("(exabgp)", error.program, error.problem, "install exabgp>=5.0.14,<6"),), {}
    except OSError as error:
        remedy = "reinstall popctl: a file of it is missing"
        return (_problem("(template)", str(error.filename), str(error), remedy),), {}
    remedy = "this is a gap of popctl's own checks; please report it"
    told = complaints[-_TOLD_LINES:]
    return tuple(_problem("(exabgp validate)", line, "ExaBGP refuses it", remedy) for line in told), files


def _problem(path: str, found: str, problem: str, remedy: str) -> Problem:
    from popctl.config.errors import Problem  # noqa: PLC0415

    return Problem(path=path, found=found, problem=problem, remedy=remedy)


def _installation(directory: Path, user: str) -> Installation:
    from popctl.bgp.render import Installation, shared_files  # noqa: PLC0415

    share = shared_files()
    return Installation(
        directory=directory.absolute(),
        relay=share / "relay",
        template=share / "exabgp.conf.tmpl",
        python=Path(sys.executable),
        user=user,
    )


class Owner(NamedTuple):
    """Whom a file is given to."""

    uid: int
    gid: int


def owner_of(user: str) -> tuple[Owner | None, tuple[Problem, ...]]:
    """Return whom the secret file must be given to, None for nobody else; or why that cannot be."""
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        remedy = "create it, or name another one with --user"
        return None, (_problem("--user", user, "no such user on this host", remedy),)
    if os.geteuid() == 0:
        return Owner(known.pw_uid, known.pw_gid), ()
    if known.pw_uid == os.geteuid():
        return None, ()
    remedy = "run this as root, or as the user that ExaBGP runs as"
    return None, (_problem("--user", user, "only root can write a secret file for another user", remedy),)


def _exabgp() -> tuple[str, ...] | None:
    """Return the ExaBGP of this very Python, which need not be on PATH; None leaves the search to PATH.

    As a module, not as the script beside the interpreter, which names the place where the environment was made: that
    may be another one here.
    """
    from importlib import metadata  # noqa: PLC0415

    try:
        metadata.version("exabgp")
    except metadata.PackageNotFoundError:
        return None
    return (sys.executable, "-P", "-m", "exabgp")


def _write(directory: Path, files: Mapping[str, str], owner: Owner | None) -> Iterator[Path]:
    from popctl.bgp.render import CONF, MODES  # noqa: PLC0415

    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path, temporary = directory / name, directory / f"{name}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODES[name])
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            os.fchmod(descriptor, MODES[name])
            if owner is not None and name == CONF:
                # Only its owner can read it, and ExaBGP is not root.
                os.fchown(descriptor, *owner)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        yield path


def _say(
    file: Path,
    problems: tuple[Problem, ...],
    warnings: tuple[Problem, ...],
    written: tuple[Path, ...],
    *,
    as_json: bool,
) -> int:
    if as_json:
        told = {"problems": problems, "warnings": warnings}
        found = {name: [asdict(one) for one in some] for name, some in told.items()}
        write_json({"ok": not problems, "file": str(file), **found, "written": [str(one) for one in written]})
        return Exit.PROBLEMS if problems else Exit.OK
    sys.stderr.write("".join(f"{printable(f'{file}: {problem}')}\n" for problem in problems))
    sys.stderr.write("".join(f"{printable(f'{file}: warning: {warning}')}\n" for warning in warnings))
    if not problems:
        sys.stdout.write("".join((f"{file}: no problem found\n", *(f"wrote {path}\n" for path in written))))
    return Exit.PROBLEMS if problems else Exit.OK
