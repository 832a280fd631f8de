"""`make demo`: raise the lab, tell the story, show it live, end with a table; exit 0 only if everything held."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab import edge, state, wiring
from lab.demo_steps import Story
from lab.drill import Drill, Finding, Step
from lab.driver import Driver
from lab.plan import Plan
from lab.scene import POPS, Scene, Witness

BOUND_S = 120.0
"""For everything but the set-up: twice what is promised for two cores, so that slower ones can tell the story, too."""
_REDRAW_S = 0.25


class Stage:
    """What the audience sees: the picture of now above, what was found so far below."""

    def __init__(self, console: Console, scene: Scene, witness: Witness) -> None:
        self._console = console
        self._scene = scene
        self._witness = witness
        self._live: Live | None = None
        self._drawn_at = 0.0
        self.step = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Draw live on a terminal; elsewhere only findings are printed."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=8) as live:
            self._live = live
            yield
            self._live = None

    def begin(self, step: Step) -> None:
        """Announce the next step."""
        self.step = step.title
        self._console.print(f"\n[bold]{escape(step.title)}[/]")

    def draw(self) -> None:
        """Bring the picture up to date, at most every quarter of a second."""
        if self._live is not None and time.monotonic() - self._drawn_at >= _REDRAW_S:
            self._live.update(Group(Text(self.step, style="bold"), self._picture()))
            self._drawn_at = time.monotonic()

    def tell(self, finding: Finding) -> None:
        """Print one finding for good."""
        mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
        took = "not in time" if finding.took_s is None else f"{finding.took_s:.2f} s"
        self._console.print(f"{mark} {took:>12}  {escape(finding.text)}")

    def _picture(self) -> Table:
        latest = self._witness.latest
        here = self._scene.labels.get(latest.label or "") if latest else None
        table = Table(title=f"client -> {here or 'nobody answers'}", title_justify="left")
        for column in ("PoP", "route at its upstream", "decision", "backends"):
            table.add_column(column)
        for pop in POPS:
            status = self._scene.status(pop)
            services = status["services"] if status else ()
            backends = status["backends"] if status else ()
            table.add_row(
                pop,
                "[green]announced[/]" if self._scene.announced(pop) else "[red]none[/]",
                "; ".join(f"{one['announce']} ({one['reason']})" for one in services) or "agent does not answer",
                ", ".join(f"{one['name']} {one['verdict']}" for one in backends),
            )
        return table


def run(driver: Driver) -> int:
    """Raise, play, take down. Returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    begun = time.monotonic()
    drill = Drill()
    # Cleans up by itself; and what was up before is not ours to take down.
    driver.deploy()
    try:
        edge.start_all(driver)
        console.print(f"{len(driver.plan.nodes)} nodes with real daemons are up: {time.monotonic() - begun:.1f} s")
        scene = Scene(driver)
        with Witness(driver) as witness:
            play(console, drill, scene, witness)
            answers = witness.since(0.0)
    finally:
        try:
            driver.destroy()
        finally:
            if drill.findings:
                # Whatever ended the story, what was found until then is told.
                drill.keep("all in all", "the demo is over", within_s=BOUND_S, took_s=time.monotonic() - begun)
                report(console, drill)
    left = leftovers(driver.plan)
    unanswered = sum(answer.label is None for answer in answers)
    console.print(f"the client asked {len(answers)} times; {unanswered} questions found nobody")
    console.print(f"left behind: {', '.join(left) or 'nothing'}")
    return exit_code(drill, left)


def exit_code(drill: Drill, left: Sequence[str]) -> int:
    """0 only if every expectation held and nothing is left behind."""
    return 0 if drill.passed and not left else 1


def play(console: Console, drill: Drill, scene: Scene, witness: Witness) -> None:
    """Run every step of the story."""
    stage = Stage(console, scene, witness)
    drill.watch, drill.tell = stage.draw, stage.tell
    with stage.open():
        drill.play(Story(scene, witness).steps(), stage.begin)


def report(console: Console, drill: Drill) -> None:
    """Print the table of what happened."""
    table = Table(title="what happened", title_justify="left")
    for column in ("step", "expected", "took", "bound", ""):
        table.add_column(column, justify="right" if column in ("took", "bound") else "left")
    last = ""
    for finding in drill.findings:
        table.add_row(
            escape(finding.step) if finding.step != last else "",
            escape(finding.text),
            "-" if finding.took_s is None else f"{finding.took_s:.2f} s",
            f"{finding.within_s:.0f} s",
            "[green]ok[/]" if finding.ok else "[red]FAIL[/]",
        )
        last = finding.step
    console.print()
    console.print(table)


def leftovers(plan: Plan) -> list[str]:
    """Name what a lab left on this host: namespaces and state, which it must not."""
    namespaces = [f"namespace {name}" for name in wiring.taken(wiring.namespaces(plan))]
    return [*namespaces, *(f"state of {name}" for name in state.names() if name == plan.name)]
