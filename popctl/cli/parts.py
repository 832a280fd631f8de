"""Optional parts of the CLI: found without being imported, imported when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

from cyclopts import App, Parameter

from popctl.cli.exits import Exit
from popctl.cli.options import fail

Rest = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


@dataclass(frozen=True, slots=True)
class Part:
    """One command and the `cyclopts.App` behind it."""

    command: str
    module: str
    attribute: str
    summary: str
    extra: str = ""
    """The extra of popctl whose packages it needs beyond popctl's own."""


_MODEL = "topology"

PARTS = (
    Part(
        "plan", "popctl.cli.plan", "plan_app", "Predict where clients go when a PoP changes its announcement.", _MODEL
    ),
    Part("topology", "popctl.cli.plan", "topology_app", "Build and inspect the Internet model behind `plan`.", _MODEL),
    Part(
        "simulate",
        "popctl.cli.simulate",
        "simulate_app",
        "Play a scenario of demand and faults against the fleet.",
        _MODEL,
    ),
    Part("lb", "popctl.cli.lb", "lb_app", "Look at the PoP's balancer."),
    Part("backend-config", "popctl.cli.backend_config", "backend_config_app", "Write the configuration of a backend."),
    Part("fleet", "popctl.cli.fleet", "fleet_app", "Look at the fleet: every PoP's state, load, reason and age."),
    Part("doctor", "popctl.cli.doctor", "doctor_app", "Look for what is wrong with this host."),
)


def present() -> Iterator[tuple[str, Callable[..., int]]]:
    """Return command names and functions of the parts whose modules exist."""
    for part in PARTS:
        if find_spec(part.module) is not None:
            yield part.command, command(part)


def command(part: Part) -> Callable[..., int]:
    """Return the function that imports `part` and hands its arguments over."""

    def enter(*arguments: Rest) -> int:
        try:
            app: App = getattr(import_module(part.module), part.attribute)
        except ImportError as error:
            if error.name is None or error.name.startswith("popctl."):
                raise
            what = f"{part.command} needs the Python package {error.name!r}, which is not installed here"
            package = f"popctl[{part.extra}]" if part.extra else "popctl again, with what it depends on"
            return fail(f"{what}; remedy: install {package}", Exit.MISSING, as_json="--json" in arguments)
        found = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
        return found if isinstance(found, int) else Exit.OK

    enter.__doc__ = part.summary
    return enter
