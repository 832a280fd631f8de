"""Whether an SPI plan can work: sizes, ids, a change of layout, and two inventories that must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from popctl.model.balancer import MAX_SLOT, Labelling, Problem, SpiPlan
from popctl.wire.spi import (
    ESP_RESERVED,
    ESP_SPACE,
    GENERATION_BITS,
    LABEL_BITS,
    REKEY_OVERLAP,
    UNROUTABLE_GENERATION,
    Identity,
    check_bits,
    esp_plan,
    esp_slice,
    id_bits,
    prefix,
    prefix_mask,
)

MIN_CHECK_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What all PoPs of a site must agree on."""

    plan: SpiPlan
    previous: tuple[SpiPlan, ...] = ()
    """Plans before it whose SAs may live, newest first."""
    names: Mapping[Identity, str]
    """Every labelled backend of every PoP that is known here."""


def lint(plan: SpiPlan, *, pops: int, backends_per_pop: int, sas_per_backend: int) -> tuple[Problem, ...]:
    """Say why a plan cannot serve this many PoPs, backends and concurrent SAs; empty when it can."""
    conditions = (*_sizes(plan, pops, backends_per_pop, sas_per_backend), *_esp_space(plan))
    return tuple(
        Problem(key=f"spi_plan.{key}", text=text, remedy=remedy) for holds, key, text, remedy in conditions if not holds
    )


def _sizes(plan: SpiPlan, pops: int, backends: int, sas: int) -> tuple[tuple[bool, str, str, str], ...]:
    return (
        (0 <= plan.generation < UNROUTABLE_GENERATION, "generation", f"{plan.generation} is not 0..6", "take the next"),
        (
            pops < 1 << plan.pop_bits,
            "pop_bits",
            f"{pops} PoPs do not fit in {plan.pop_bits} bits (id 0 is not given out)",
            f"set at least {pops.bit_length()}",
        ),
        (
            backends <= min(1 << plan.backend_bits, MAX_SLOT),
            "backend_bits",
            f"{backends} backends do not fit in {plan.backend_bits} bits (at most {MAX_SLOT} in a PoP)",
            f"set at least {max(1, (backends - 1).bit_length())}",
        ),
        (
            sas * REKEY_OVERLAP <= 1 << plan.sa_bits,
            "sa_bits",
            f"{sas} SAs, twice while they rekey, do not fit in {plan.sa_bits} bits",
            f"set at least {(sas * REKEY_OVERLAP - 1).bit_length()}",
        ),
        (
            check_bits(plan) >= MIN_CHECK_BITS,
            "pop_bits",
            f"only {check_bits(plan)} check bits are left in the label",
            f"let pop_bits + backend_bits be at most {LABEL_BITS - GENERATION_BITS - MIN_CHECK_BITS}",
        ),
    )


def _esp_space(plan: SpiPlan) -> tuple[tuple[bool, str, str, str], ...]:
    whole = esp_plan(plan)
    return (
        (
            plan.esp_base >= 0 and whole.last < ESP_SPACE,
            "esp_base",
            f"the ESP range {whole.first:#x}-{whole.last:#x} leaves the 32-bit space",
            f"let pop_bits + backend_bits + sa_bits be at most {(ESP_SPACE - max(0, plan.esp_base)).bit_length() - 1}",
        ),
        (
            esp_slice(plan, Identity(1, 0)).first >= ESP_RESERVED,
            "esp_base",
            "the first slice reaches into the reserved SPIs below 0x100",
            f"set it to {ESP_RESERVED:#x} or above",
        ),
        (
            plan.esp_base % (1 << plan.sa_bits) == 0,
            "esp_base",
            f"{plan.esp_base:#x} is not a multiple of a slice",
            f"set a multiple of {1 << plan.sa_bits:#x}",
        ),
    )


def lint_ids(plan: SpiPlan, pop: int, backends: Mapping[int, str]) -> tuple[Problem, ...]:
    """Say which ids of one PoP the plan has no label for."""
    found = []
    if not 1 <= pop < 1 << plan.pop_bits:
        found.append(
            Problem(
                key="pop.id",
                text=f"{pop} is not 1..{(1 << plan.pop_bits) - 1}",
                remedy="choose a free id or widen spi_plan.pop_bits in a new generation",
            )
        )
    largest = min((1 << plan.backend_bits) - 1, MAX_SLOT - 1)
    found += [
        Problem(
            key=f"backends.{name}.id",
            text=f"{backend} is not 0..{largest}",
            remedy="choose a free id or widen spi_plan.backend_bits in a new generation",
        )
        for backend, name in sorted(backends.items())
        if not 0 <= backend <= largest
    ]
    return tuple(found)


def successor_problems(old: SpiPlan, new: SpiPlan) -> tuple[Problem, ...]:
    """Say why SAs made under `old` would be misread under `new`; empty when both may be alive at once."""
    if old == new:
        return ()
    found = []
    mask = prefix_mask(old) & prefix_mask(new)
    if prefix(old) & mask == prefix(new) & mask:
        found.append(
            Problem(
                key="spi_plan.generation",
                text="labels of the old and the new layout can be equal",
                remedy=f"set {(old.generation + 1) % UNROUTABLE_GENERATION}",
            )
        )
    before, after = esp_plan(old), esp_plan(new)
    if (old.esp_base, id_bits(old), old.backend_bits, old.sa_bits) != (
        new.esp_base,
        id_bits(new),
        new.backend_bits,
        new.sa_bits,
    ) and max(before.first, after.first) <= min(before.last, after.last):
        found.append(
            Problem(
                key="spi_plan.esp_base",
                text=f"ESP ranges overlap: {before.first:#x}-{before.last:#x} and {after.first:#x}-{after.last:#x}",
                remedy="choose a base outside the old range, or let all old SAs end first",
            )
        )
    return tuple(found)


def lint_previous(plans: Sequence[SpiPlan]) -> tuple[Problem, ...]:
    """Say why these plans, newest first, cannot be in force together; empty when every SPI has one meaning."""
    places = [("spi_plan" + ".previous" * age, plan) for age, plan in enumerate(plans)]
    found = [
        _moved(one, at) for at, plan in places[1:] for one in lint(plan, pops=1, backends_per_pop=1, sas_per_backend=1)
    ]
    for (at, newer), (before, older) in combinations(places, 2):
        if newer == older:
            remedy = "write the plan there that was in force before, or leave it out"
            found.append(Problem(key=before, text=f"is the same as {at}", remedy=remedy))
        found += [_moved(one, at) for one in successor_problems(older, newer)]
    return tuple(found)


def _moved(problem: Problem, at: str) -> Problem:
    return replace(problem, key=at + problem.key.removeprefix("spi_plan"))


def clashes(ours: Labelling, name: str, theirs: Labelling) -> tuple[Problem, ...]:
    """Say what labels of the PoP `name` would be taken for here, or ours there; empty when no SA is misread.

    While a new plan is rolled out PoP by PoP, one knows both: that is no clash.
    """
    found = []
    if ours.pop == theirs.pop:
        text = f"{ours.pop} is the id of {name}, too: a client of one is steered by the other as its own"
        found.append(Problem(key="pop.id", text=text, remedy="ids are permanent: give the newer PoP a free one"))
    if ours.plans and theirs.plans and ours.plans[0] not in theirs.plans and theirs.plans[0] not in ours.plans:
        text = (
            f"is {ours.plans[0]}, and in {name} {theirs.plans[0]}: neither can tell the other's clients from strangers"
        )
        remedy = "copy one to the other; a new plan keeps the one before it under previous"
        found.append(Problem(key="spi_plan", text=text, remedy=remedy))
    return tuple(found)


def one_pop(pop: int, ours: str | None, theirs: str | None) -> tuple[Problem, ...]:
    """Say that two PoPs of different names have one id; empty when it may be one PoP."""
    if ours is None or theirs is None or ours == theirs:
        return ()
    return (
        Problem(
            key="pop.id",
            text=f"{pop} is {ours!r} here and {theirs!r} there",
            remedy="ids are permanent: give the newer PoP a free one",
        ),
    )


def disagreements(ours: Inventory, theirs: Inventory) -> tuple[Problem, ...]:
    """Say where two inventories of one site differ: either they are equal or clients are steered wrong."""
    found = []
    if ours.plan != theirs.plan:
        fields = [f for f in SpiPlan.__slots__ if getattr(ours.plan, f) != getattr(theirs.plan, f)]
        found.append(
            Problem(
                key="spi_plan",
                text="differs in "
                + ", ".join(f"{f} ({getattr(ours.plan, f)}, {getattr(theirs.plan, f)})" for f in fields),
                remedy="copy one to the other before either is loaded",
            )
        )
    if ours.previous != theirs.previous:
        here, there = (", ".join(map(str, one.previous)) or "nothing" for one in (ours, theirs))
        remedy = "copy one to the other: a client of a plan that only one knows is hashed by the other"
        found.append(Problem(key="spi_plan.previous", text=f"is {here} here and {there} there", remedy=remedy))
    found += [
        Problem(
            key=f"pops.{identity.pop}.backends.{identity.backend}",
            text=f"is {ours.names[identity]!r} here and {theirs.names[identity]!r} there",
            remedy="ids are permanent: give the newer backend a free id",
        )
        for identity in sorted(ours.names.keys() & theirs.names.keys())
        if ours.names[identity] != theirs.names[identity]
    ]
    return tuple(found)
