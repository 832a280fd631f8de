"""`exabgp/relay.py` as a module: its folder is no package, because it shares its name with the installed ExaBGP."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[3] / "exabgp" / "relay.py"


def _load() -> Any:  # noqa: ANN401 - a module from a path has no static type
    name = "popctl_relay"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PATH)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


relay = _load()
