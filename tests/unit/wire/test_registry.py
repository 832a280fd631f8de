"""Ids are permanent and not given out again while an old SA may carry them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.model.balancer import SpiPlan
from popctl.wire.errors import WireError
from popctl.wire.registry import Record, Replaced, Tenure, decode, encode, succeed, update

DAY = 86400.0


def test_an_id_reused_too_early_is_refused_and_nothing_changes() -> None:
    first, _ = update((), {0: "a", 1: "b"}, now_unix_s=0, longest_sa_s=DAY)
    retired, _ = update(first, {0: "a"}, now_unix_s=100, longest_sa_s=DAY)
    same, problems = update(retired, {0: "a", 1: "c"}, now_unix_s=DAY, longest_sa_s=DAY)
    assert same == retired
    assert [str(p) for p in problems] == [
        (
            "backends.c.id: 1 belongs to 'b', whose SAs may live for another 100 s; "
            "give it an id that was never used, or leave the id to nobody for so long"
        )
    ]
    freed, problems = update(retired, {0: "a", 1: "c"}, now_unix_s=DAY + 100, longest_sa_s=DAY)
    assert problems == ()
    assert freed[1] == Tenure(id=1, name="c")


def test_an_id_is_not_taken_over_from_a_backend_in_use() -> None:
    first, _ = update((), {0: "a"}, now_unix_s=0, longest_sa_s=DAY)
    _, problems = update(first, {0: "z"}, now_unix_s=10 * DAY, longest_sa_s=DAY)
    assert [p.key for p in problems] == ["backends.z.id"]


def test_a_backend_may_come_back_to_its_own_id_at_any_time() -> None:
    first, _ = update((), {0: "a"}, now_unix_s=0, longest_sa_s=DAY)
    gone, _ = update(first, {}, now_unix_s=10, longest_sa_s=DAY)
    assert gone == (Tenure(id=0, name="a", retired_unix_s=10),)
    assert update(gone, {0: "a"}, now_unix_s=20, longest_sa_s=DAY) == ((Tenure(id=0, name="a"),), ())


PLAN = SpiPlan(site="example.net")
RECORD = Record(pop=7, plan=PLAN, ids=(Tenure(id=0, name="a"), Tenure(id=1, name="b", retired_unix_s=12.5)))


def follow(before: Record | None, *plans: SpiPlan, pop: int = 7, now_unix_s: float = DAY) -> tuple[Record, list[str]]:
    record, problems = succeed(
        before, pop=pop, plans=plans, configured={0: "a"}, now_unix_s=now_unix_s, longest_sa_s=DAY
    )
    return record, [str(problem) for problem in problems]


def test_the_first_configuration_is_recorded_and_the_same_one_changes_nothing() -> None:
    first, problems = follow(None, PLAN)
    assert (first, problems) == (Record(pop=7, plan=PLAN, ids=(Tenure(id=0, name="a"),)), [])
    assert follow(first, PLAN) == (first, [])


def test_another_pop_id_is_refused_while_sas_carry_the_old_one() -> None:
    record, problems = follow(RECORD, PLAN, pop=8)
    assert record == RECORD
    (problem,) = problems
    assert problem.startswith("pop.id: is 8, and SAs carry 7; ids are permanent: write the old one back, or remove")


def test_another_layout_needs_another_generation_and_room_of_its_own() -> None:
    _, problems = follow(RECORD, replace(PLAN, pop_bits=9, sa_bits=17))
    assert [problem.split(":")[0] for problem in problems] == ["spi_plan.esp_base"]
    bare = replace(PLAN, site="example.org", esp_base=1 << 16)
    assert follow(replace(RECORD, plan=bare), replace(bare, pop_bits=9))[1] != []
    assert follow(replace(RECORD, plan=OLD), NEW, OLD)[1] == []


OLD = replace(PLAN, pop_bits=4, backend_bits=4, sa_bits=20, esp_base=0x10000000)
NEW = replace(OLD, generation=1, esp_base=0x20000000, site="example.org")


def test_a_plan_is_not_dropped_while_its_sas_live() -> None:
    assert follow(replace(RECORD, plan=OLD), NEW) == (
        replace(RECORD, plan=OLD),
        [
            (
                "spi_plan.previous: lacks {site: example.net, pop_bits: 4, backend_bits: 4, sa_bits: 20, "
                "esp_base: 0x10000000, generation: 0}, whose SAs may live for another 86400 s; "
                "write that plan there: without it, they are taken from their backends"
            )
        ],
    )
    both, _ = follow(replace(RECORD, plan=OLD), NEW, OLD)
    assert (both.plan, both.replaced) == (NEW, (Replaced(OLD, DAY),))
    assert len(follow(both, NEW, now_unix_s=2 * DAY - 1)[1]) == 1
    after, problems = follow(both, NEW, now_unix_s=2 * DAY)
    assert (after.replaced, problems) == ((), [])


def test_a_new_plan_can_be_taken_back_and_without_a_balancer_none_is_asked_for() -> None:
    both, _ = follow(replace(RECORD, plan=OLD), NEW, OLD)
    back, problems = follow(both, OLD, NEW, now_unix_s=DAY + 1)
    assert (back.plan, back.replaced, problems) == (OLD, (Replaced(NEW, DAY + 1),), [])
    assert follow(both) == (both, [])


def test_a_plan_that_is_gone_for_a_while_is_not_forgotten() -> None:
    record, problems = follow(RECORD)
    assert (record.plan, problems) == (PLAN, [])


@pytest.mark.parametrize("record", [RECORD, Record(pop=1, plan=None), replace(RECORD, replaced=(Replaced(OLD, 3.5),))])
def test_a_record_survives_its_file(record: Record) -> None:
    assert decode(encode(record)) == record


@given(st.binary())
def test_garbage_raises_only_wire_errors(content: bytes) -> None:
    with pytest.raises(WireError):
        decode(content)


@given(st.integers(0, len(encode(RECORD)) - 1), st.integers(1, 255))
def test_one_changed_byte_is_damage(at: int, flip: int) -> None:
    content = bytearray(encode(RECORD))
    content[at] ^= flip
    with pytest.raises(WireError):
        decode(bytes(content))


def test_two_holders_of_one_id_are_damage() -> None:
    with pytest.raises(WireError):
        decode(encode(Record(pop=1, plan=None, ids=(Tenure(id=0, name="a"), Tenure(id=0, name="b")))))


@pytest.mark.parametrize("record", [Record(pop="7", plan=None), Record(pop=True, plan=None)])  # type: ignore[arg-type]  # what a hand may write
def test_a_pop_that_is_no_number_is_damage(record: Record) -> None:
    with pytest.raises(WireError):
        decode(encode(record))
