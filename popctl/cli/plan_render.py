"""Answers of the model as tables for people and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from topology.catchment import AtRisk
from topology.fit import Fit
from topology.whatif import Answer, PopChange, Study

_SHOWN = 12
"""Rows of a table about many PoPs; JSON has them all."""


def cycles_document(study: Study) -> dict[str, Any]:
    """Return for JSON which ASes of the graph are taken as one."""
    return {"collapsed": study.model.attachment.graph.collapsed}


def as_document(answer: Answer) -> dict[str, Any]:
    """Return an answer for JSON."""
    return {
        "question": answer.question,
        "safe": answer.safe,
        "findings": [{"danger": str(one.danger), "pop": one.pop} for one in answer.findings],
        "moved": answer.moved,
        "unreached": {"before": answer.unreached_before, "after": answer.unreached_after, "lost": answer.lost},
        "certain": answer.certain,
        "measured": answer.measured,
        "outside": answer.outside,
        "farthest_detour_km": answer.farthest_detour_km,
        "pops": {change.pop: _change(change) for change in answer.pops},
    }


def _change(change: PopChange) -> dict[str, Any]:
    return {
        "announced": change.announced,
        "before": asdict(change.before),
        "after": asdict(change.after),
        "reconnect_handshakes_s": change.handshakes_s,
        "capacity": asdict(change.capacity),
        "utilisation": {"before": round(change.utilisation_before, 4), "after": round(change.utilisation_after, 4)},
        "moved_in": change.moved_in,
        "moved_out": change.moved_out,
    }


def load_document(study: Study) -> dict[str, Any]:
    """Return for JSON what every PoP carries in the baseline."""
    return {
        "unreached": study.unreached,
        "outside": study.demand.outside,
        **cycles_document(study),
        "pops": {
            site.name: asdict(load) | {"capacity": asdict(site.capacity)}
            for site, load in zip(study.fleet.pops, study.load, strict=True)
        },
    }


def show_answer(answer: Answer, out: Console) -> None:
    """Print one answer: its PoPs that change, then what is dangerous."""
    table = Table("PoP", title=answer.question, title_justify="left")
    for head in ("before", "after", "capacity", "load", "certain", "moved in", "moved out", "handshakes/s"):
        table.add_column(head, justify="right")
    changed = [change for change in answer.pops if change.after != change.before or change.moved_in]
    # What is gone first, then the fullest.
    changed.sort(key=lambda change: (change.announced, -change.utilisation_after, change.pop))
    for change in changed[:_SHOWN]:
        table.add_row(
            change.pop,
            f"{change.before.sessions:,}",
            f"{change.after.sessions:,}" if change.announced else "withdrawn",
            f"{change.capacity.sessions:,}",
            f"{change.utilisation_before:.0%} -> {change.utilisation_after:.0%}",
            _share(change.after.certain, change.after.sessions),
            f"{change.moved_in:,}",
            f"{change.moved_out:,}",
            f"{change.handshakes_s:,} of {change.capacity.handshakes_s:,}",
        )
    out.print(table)
    if len(changed) > _SHOWN:
        out.print(f"and {len(changed) - _SHOWN} more PoPs with less load")
    out.print(
        f"{answer.moved:,} sessions move, the farthest to a PoP {answer.farthest_detour_km:,} km farther away; "
        f"{answer.unreached_after:,} reach no PoP ({answer.unreached_before:,} before), {answer.lost:,} of them newly"
    )
    _show_outside(answer.outside, out)
    for finding in answer.findings:
        out.print(f"unsafe: {finding.danger}{'' if finding.pop is None else f' {finding.pop}'}", style="bold red")
    if answer.safe:
        out.print("safe", style="green")


def _show_outside(sessions: int, out: Console) -> None:
    """Print whom no answer is about."""
    if sessions:
        out.print(f"{sessions:,} sessions are of ASes outside the graph: nothing is said about them")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def show_answers(answers: list[Answer], out: Console) -> None:
    """Print many answers, the worst first: one line each."""
    table = Table("question", title=f"{len(answers)} questions", title_justify="left")
    for head in ("moved", "unreached", "highest load", "farthest detour"):
        table.add_column(head, justify="right")
    table.add_column("unsafe because")
    ordered = sorted(answers, key=lambda one: (one.safe, -highest(one), one.question))
    for answer in ordered[: 2 * _SHOWN]:
        table.add_row(
            answer.question,
            f"{answer.moved:,}",
            f"{answer.unreached_after:,}",
            f"{highest(answer):.0%}",
            f"{answer.farthest_detour_km:,} km",
            ", ".join(dict.fromkeys(f"{one.danger} {one.pop or ''}".strip() for one in answer.findings)) or "-",
        )
    out.print(table)
    if len(ordered) > 2 * _SHOWN:
        out.print(f"and {len(ordered) - 2 * _SHOWN} more, no worse")
    _show_outside(max(answer.outside for answer in answers), out)
    safe = sum(answer.safe for answer in answers)
    out.print(f"{safe} of {len(answers)} are safe")


def highest(answer: Answer) -> float:
    """Return the highest utilisation of any PoP after the change."""
    return max((change.utilisation_after for change in answer.pops), default=0.0)


def show_load(study: Study, risks: Iterable[AtRisk], out: Console) -> None:
    """Print what every PoP carries now, and who may flip."""
    table = Table("PoP", "region")
    for head in ("sessions", "certain", "capacity", "Gbit/s", "handshakes/s", "load"):
        table.add_column(head, justify="right")
    for pop, load in sorted(zip(study.fleet.pops, study.load, strict=True), key=lambda pair: -pair[1].sessions):
        table.add_row(
            pop.name,
            pop.region,
            f"{load.sessions:,}",
            _share(load.certain, load.sessions),
            f"{pop.capacity.sessions:,}",
            f"{load.bit_s / 1e9:,.1f} of {pop.capacity.bit_s / 1e9:,.1f}",
            f"{load.handshakes_s:,} of {pop.capacity.handshakes_s:,}",
            f"{load.utilisation(pop.capacity):.0%}",
        )
    out.print(table)
    out.print(f"{study.unreached:,} sessions reach no PoP; {study.demand.outside:,} are of ASes outside the graph")
    names = [pop.name for pop in study.fleet.pops]
    risk_table = Table("AS", title="may flip between PoPs: equal routes lead to several", title_justify="left")
    risk_table.add_column("sessions", justify="right")
    risk_table.add_column("now at")
    risk_table.add_column("possible")
    for risk in risks:
        possible = " ".join(names[pop] for pop in sorted(risk.possible))
        risk_table.add_row(str(risk.asn), f"{risk.sessions:,}", names[risk.chosen], possible)
    out.print(risk_table)


def risk_document(risk: AtRisk, names: list[str]) -> dict[str, Any]:
    """Return an AS that may flip for JSON."""
    possible = [names[pop] for pop in sorted(risk.possible)]
    return {"asn": risk.asn, "sessions": risk.sessions, "pop": names[risk.chosen], "possible": possible}


def show_cycles(source: Path, cycles: Sequence[Sequence[int]]) -> None:
    """Say on standard error which ASes of a graph are taken as one."""
    for cycle in cycles[:_SHOWN]:
        more = f" and {len(cycle) - _SHOWN} more" if len(cycle) > _SHOWN else ""
        named = f"{' '.join(map(str, cycle[:_SHOWN]))}{more}"
        sys.stderr.write(f"popctl: {source}: these ASes are providers in a circle and count as one: {named}\n")
    if len(cycles) > _SHOWN:
        sys.stderr.write(f"popctl: {source}: {len(cycles) - _SHOWN} more such circles; JSON has all\n")


def show_fits(fits: Iterable[Fit], out: Console) -> None:
    """Print how a graph compares with the published statistics."""
    table = Table("statistic")
    table.add_column("distance", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("")
    for fit in fits:
        table.add_row(fit.name, f"{fit.distance:.3f}", f"{fit.bound:.3f}", "fitted" if fit.ok else "not fitted")
    out.print(table)
