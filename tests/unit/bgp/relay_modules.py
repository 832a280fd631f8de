"""The modules of `exabgp/relay`, a folder that Python runs and that is no package: its parent shares ExaBGP's name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[3] / "exabgp" / "relay"


def _load(name: str) -> Any:  # noqa: ANN401 - a module from a path has no static type
    sys.path.insert(0, str(PATH))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(PATH))


allowlist, daemon, agent = map(_load, ("allowlist", "daemon", "agent"))
