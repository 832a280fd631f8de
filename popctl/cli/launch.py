"""Commands that become another program: the agent, the replay, the lab. The CLI imports none of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import popctl
from popctl.cli.exits import Exit

Rest = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


def agent(*, config: Annotated[Path, Parameter(name=("--config", "-c"))]) -> int:
    """Run the agent of this PoP in the foreground.

    Parameters
    ----------
    config
        The configuration file.
    """
    return _become("popctl.agent", str(config))


def replay(file: Path, /, *arguments: Rest) -> int:
    """Decide a journal again and compare; exit 1 when a decision differs, 65 when the file cannot be read.

    Parameters
    ----------
    file
        A journal of the agent.
    """
    return _become("popctl.agent.replay", str(file), *arguments)


def meter(*arguments: Rest) -> int:
    """Measure this backend, watch its VPN daemons, and tell agents (`popctl meter --help`)."""
    return _become("popctl.meter", *arguments)


def lab(*arguments: Rest) -> int:
    """Raise, break and watch the lab of a checkout (`popctl lab --help`)."""
    checkout = Path(popctl.__file__).resolve().parent.parent
    if not (checkout / "lab" / "__main__.py").is_file():
        sys.stderr.write("popctl: the lab is part of a checkout, not of an installed package; run it from there\n")
        return Exit.MISSING
    paths = [str(checkout), *filter(None, (os.environ.get("PYTHONPATH"),))]
    return _become("lab", *arguments, PYTHONPATH=os.pathsep.join(paths))


def _become(module: str, *arguments: str, **environment: str) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - no shell wanted
        sys.executable, [sys.executable, "-m", module, *arguments], {**os.environ, **environment}
    )
