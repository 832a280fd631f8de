"""The SPI plan: sizes, labels, slices, and every way in which a plan or two of them cannot work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.model.balancer import EspRange, Labelling, Labels, SpiPlan
from popctl.wire.errors import WireError
from popctl.wire.spi import (
    ESP_SPACE,
    UNROUTABLE_LABEL,
    Identity,
    check_bits,
    esp_plan,
    esp_slice,
    identify,
    identify_esp,
    label,
    labels,
    prefix,
    prefix_mask,
)
from popctl.wire.spi_lint import Inventory, clashes, disagreements, lint, lint_ids, lint_previous, successor_problems

PLAN = SpiPlan(site="example.net")


def spi(top: int) -> bytes:
    """Return an IKE SPI with this upper half."""
    return top.to_bytes(4, "big") + b"\x01\x02\x03\x04"


def test_the_default_plan_holds_a_thousand_pops_of_64_backends() -> None:
    assert lint(PLAN, pops=1000, backends_per_pop=64, sas_per_backend=32768) == ()
    assert check_bits(PLAN) == 13
    assert esp_slice(PLAN, Identity(1000, 63)).last < ESP_SPACE


def test_one_more_sa_than_half_a_slice_does_not_fit() -> None:
    (problem,) = lint(PLAN, pops=1000, backends_per_pop=64, sas_per_backend=32769)
    assert str(problem) == (
        "spi_plan.sa_bits: 32769 SAs, twice while they rekey, do not fit in 16 bits; set at least 17"
    )


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(PLAN, generation=7), "spi_plan.generation: 7 is not 0..6; take the next"),
        (
            replace(PLAN, pop_bits=9),
            "spi_plan.pop_bits: 1000 PoPs do not fit in 9 bits (id 0 is not given out); set at least 10",
        ),
        (
            replace(PLAN, backend_bits=5),
            "spi_plan.backend_bits: 64 backends do not fit in 5 bits (at most 254 in a PoP); set at least 6",
        ),
        (
            replace(PLAN, sa_bits=17),
            (
                "spi_plan.esp_base: the ESP range 0x0-0x1ffffffff leaves the 32-bit space; "
                "let pop_bits + backend_bits + sa_bits be at most 32"
            ),
        ),
        (
            replace(PLAN, esp_base=0x10000),
            (
                "spi_plan.esp_base: the ESP range 0x10000-0x10000ffff leaves the 32-bit space; "
                "let pop_bits + backend_bits + sa_bits be at most 31"
            ),
        ),
    ],
)
def test_a_plan_that_is_too_small_or_too_large_is_refused_with_the_remedy(plan: SpiPlan, message: str) -> None:
    assert [str(p) for p in lint(plan, pops=1000, backends_per_pop=64, sas_per_backend=1000)] == [message]


def test_a_label_keeps_eight_check_bits() -> None:
    plan = replace(PLAN, pop_bits=14, backend_bits=8, sa_bits=10)
    keys = [p.key for p in lint(plan, pops=1000, backends_per_pop=64, sas_per_backend=10)]
    assert keys == ["spi_plan.pop_bits"]


def test_slices_start_above_the_reserved_spis_and_on_their_own_size() -> None:
    tiny = SpiPlan(site="x", pop_bits=2, backend_bits=2, sa_bits=4, esp_base=0x18)
    texts = [str(p) for p in lint(tiny, pops=3, backends_per_pop=4, sas_per_backend=8)]
    assert texts == [
        "spi_plan.esp_base: the first slice reaches into the reserved SPIs below 0x100; set it to 0x100 or above",
        "spi_plan.esp_base: 0x18 is not a multiple of a slice; set a multiple of 0x10",
    ]


def test_a_label_says_who_chose_the_spi() -> None:
    assert identify(PLAN, spi(label(PLAN, Identity(1000, 63)))) == Identity(1000, 63)
    assert identify_esp(PLAN, esp_slice(PLAN, Identity(7, 5)).first) == Identity(7, 5)


def test_an_spi_of_another_layout_has_no_label_here() -> None:
    wider = replace(PLAN, backend_bits=7, sa_bits=15)
    assert identify(PLAN, spi(label(wider, Identity(7, 5)))) is None
    assert identify(PLAN, spi(UNROUTABLE_LABEL)) is None
    assert identify_esp(SpiPlan(site="x", pop_bits=2, backend_bits=2, esp_base=1 << 30), 5) is None


def test_an_spi_has_eight_bytes() -> None:
    with pytest.raises(WireError):
        identify(PLAN, b"short")


def test_a_balancer_matches_only_its_own_backends() -> None:
    found = labels(PLAN, 7, [0, 3])
    assert found.ike == {label(PLAN, Identity(7, 0)): 0, label(PLAN, Identity(7, 3)): 3}
    assert found.esp == {EspRange(0x01C00000, 0x01C0FFFF): 0, EspRange(0x01C30000, 0x01C3FFFF): 3}
    assert found.prefixes == ((prefix(PLAN), prefix_mask(PLAN)),)
    assert found.esp_plans == (esp_plan(PLAN),)


def test_without_labelled_backends_no_packet_is_a_stray() -> None:
    assert labels(PLAN, 7, []) == Labels()


def test_ids_outside_the_plan_are_named() -> None:
    assert [p.key for p in lint_ids(PLAN, 0, {})] == ["pop.id"]
    assert [str(p) for p in lint_ids(PLAN, 1024, {64: "b64"})] == [
        "pop.id: 1024 is not 1..1023; choose a free id or widen spi_plan.pop_bits in a new generation",
        "backends.b64.id: 64 is not 0..63; choose a free id or widen spi_plan.backend_bits in a new generation",
    ]


def test_a_new_layout_needs_a_new_generation_and_its_own_esp_range() -> None:
    small = SpiPlan(site="x", pop_bits=4, backend_bits=4, sa_bits=16, esp_base=0x10000000)
    assert successor_problems(small, small) == ()
    next_one = replace(small, backend_bits=5, generation=1, esp_base=0x20000000)
    assert successor_problems(small, next_one) == ()
    assert [p.key for p in successor_problems(small, replace(next_one, esp_base=0x10000000))] == ["spi_plan.esp_base"]


def test_two_layouts_whose_labels_can_be_equal_are_refused() -> None:
    clash = next(
        other
        for number in range(100000)
        if prefix(other := SpiPlan(site=str(number), pop_bits=12, backend_bits=9, sa_bits=11))
        == 0x0EE00000 & 0xFFE00000
    )
    twin = next(
        other for number in range(100000, 200000) if prefix(other := replace(clash, site=str(number))) == prefix(clash)
    )
    assert [p.key for p in successor_problems(clash, twin)] == ["spi_plan.generation"]


NARROW = SpiPlan(site="x", pop_bits=4, backend_bits=4, sa_bits=16, esp_base=0x10000000)
WIDER = replace(NARROW, backend_bits=5, generation=1, esp_base=0x20000000)


def test_a_balancer_matches_labels_and_slices_of_all_plans_in_force() -> None:
    found = labels(WIDER, 7, [2, 20], [NARROW])
    old, new = Identity(7, 2), Identity(7, 20)
    # Backend 20 came with the wider plan: of the narrow one its label would be another PoP's.
    assert found.ike == {label(WIDER, old): 2, label(WIDER, new): 20, label(NARROW, old): 2}
    assert found.esp == {esp_slice(WIDER, old): 2, esp_slice(WIDER, new): 20, esp_slice(NARROW, old): 2}
    assert found.prefixes == ((prefix(WIDER), prefix_mask(WIDER)), (prefix(NARROW), prefix_mask(NARROW)))
    assert found.esp_plans == (esp_plan(WIDER), esp_plan(NARROW))


def test_plans_that_share_their_layout_of_esp_have_its_slices_once() -> None:
    found = labels(replace(PLAN, generation=1), 7, [0], [PLAN])
    assert (len(found.ike), len(found.esp), len(found.esp_plans)) == (2, 1, 1)


def test_plans_in_force_together_give_every_spi_one_meaning() -> None:
    assert lint_previous([WIDER, NARROW]) == lint_previous([PLAN]) == lint_previous([]) == ()
    assert [
        str(p) for p in lint_previous([WIDER, replace(NARROW, esp_base=0x20000000), replace(NARROW, generation=7)])
    ] == [
        "spi_plan.previous.previous.generation: 7 is not 0..6; take the next",
        (
            "spi_plan.esp_base: ESP ranges overlap: 0x20000000-0x20ffffff and 0x20000000-0x21ffffff; "
            "choose a base outside the old range, or let all old SAs end first"
        ),
    ]
    assert [str(p) for p in lint_previous([NARROW, NARROW])] == [
        "spi_plan.previous: is the same as spi_plan; write the plan there that was in force before, or leave it out"
    ]


def test_labels_of_two_pops_clash_by_an_id_that_both_have_and_by_plans_that_do_not_know_each_other() -> None:
    ours = Labelling(pop=7, plans=(NARROW,))
    assert clashes(ours, "ams", Labelling(pop=8, plans=(NARROW,))) == ()
    assert [str(p) for p in clashes(ours, "ams", ours)] == [
        (
            "pop.id: 7 is the id of ams, too: a client of one is steered by the other as its own; "
            "ids are permanent: give the newer PoP a free one"
        )
    ]
    assert [str(p) for p in clashes(ours, "ams", Labelling(pop=8, plans=(WIDER,)))] == [
        (
            f"spi_plan: is {NARROW}, and in ams {WIDER}: neither can tell the other's clients from strangers; "
            "copy one to the other; a new plan keeps the one before it under previous"
        )
    ]
    rolled_out = Labelling(pop=8, plans=(WIDER, NARROW))
    assert clashes(ours, "ams", rolled_out) == clashes(rolled_out, "fra", ours) == ()


def test_inventories_that_disagree_are_told_apart() -> None:
    ours = Inventory(plan=PLAN, names={Identity(7, 0): "a", Identity(7, 1): "b"})
    assert disagreements(ours, ours) == ()
    theirs = Inventory(plan=replace(PLAN, generation=1), names={Identity(7, 1): "c"})
    assert [str(p) for p in disagreements(ours, theirs)] == [
        "spi_plan: differs in generation (0, 1); copy one to the other before either is loaded",
        "pops.7.backends.1: is 'b' here and 'c' there; ids are permanent: give the newer backend a free id",
    ]
    assert [str(p) for p in disagreements(ours, replace(ours, previous=(NARROW,)))] == [
        (
            f"spi_plan.previous: is nothing here and {NARROW} there; "
            "copy one to the other: a client of a plan that only one knows is hashed by the other"
        )
    ]
