"""Ask the real ExaBGP what it thinks of rendered files, before anything is replaced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from popctl.bgp.errors import ExaBgpMissingError
from popctl.bgp.render import CONF, MODES, RELAY, SETTINGS

OLDEST, TOO_NEW = (5, 0, 14), (6,)
_TIMEOUT_S = 20.0
_KEY = re.compile(r'^\s*md5-password "([^"]+)"', re.MULTILINE)


def find() -> tuple[str, ...]:
    """Return the command of the ExaBGP on PATH. Raises `ExaBgpMissingError`."""
    found = shutil.which("exabgp")
    if found is None:
        raise ExaBgpMissingError("exabgp", "not found on PATH")
    return (found,)


def version(program: Sequence[str]) -> str:
    """Return the version of an ExaBGP, given as the words that start it.

    Raises:
        ExaBgpMissingError: it does not run, or its version is not one that popctl speaks.
    """
    output = _run(program, "version").stdout
    found = re.search(r"^ExaBGP\s*:\s*(\S+)", output, re.MULTILINE)
    if found is None:
        raise ExaBgpMissingError(" ".join(program), "tells no version")
    numbers = tuple(int(part) for part in re.findall(r"\d+", found[1].partition("-")[0]))
    if not OLDEST <= numbers < TOO_NEW:
        raise ExaBgpMissingError(" ".join(program), f"is version {found[1]}")
    return found[1]


def validate(files: Mapping[str, str], program: Sequence[str] | None = None) -> tuple[str, ...]:
    """Run `exabgp validate` on the rendered files; return what it complains about, nothing when all is well.

    ExaBGP quotes what it does not understand; MD5 keys are blanked in that.

    Raises:
        ExaBgpMissingError: there is no ExaBGP to ask.
    """
    program = program or find()
    version(program)
    with tempfile.TemporaryDirectory(prefix="popctl-") as name:
        directory = Path(name)
        for file in (CONF, SETTINGS, RELAY):
            path = directory / file
            path.touch(mode=MODES[file])
            path.write_text(files[file], encoding="ascii")
        environment = {**os.environ, "EXABGP_ENVFILE": str(directory / SETTINGS)}
        done = _run(program, "validate", "-n", "-r", str(directory / CONF), environment=environment)
    if done.returncode == 0:
        return ()
    return _blanked(_complaints(done, directory), files[CONF]) or (f"exit status {done.returncode}",)


def _complaints(done: subprocess.CompletedProcess[str], directory: Path) -> tuple[str, ...]:
    text = f"{done.stderr}\n{done.stdout}".replace(f"{directory}/", "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback"):
        # Its settings are read before its error handling is up, such as a user that this host does not have.
        return (done.stderr.strip().splitlines()[-1].strip(),)
    return tuple(dict.fromkeys(lines))


def _blanked(lines: tuple[str, ...], configuration: str) -> tuple[str, ...]:
    # The longest first: one key may be a part of another.
    for key in sorted(set(_KEY.findall(configuration)), key=len, reverse=True):
        lines = tuple(line.replace(key, "...") for line in lines)
    return lines


def _run(
    program: Sequence[str], *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*program, *words], check=False, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExaBgpMissingError(" ".join(program), f"does not run: {error}") from error
