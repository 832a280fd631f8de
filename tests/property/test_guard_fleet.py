"""Whatever happens to a fleet, and in whatever order: controllers never leave fewer PoPs than the floor.

Invariant 3. The schedules are small integers (`guard_world` has their meaning), so a failure is a list that replays; it
is shrunk and told before it is printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.guard_mutants import MUTANTS
from tests.property.guard_schedule import STEPS, TABLES, Schedule, shrink, sweep
from tests.property.guard_world import REAL, FloorBrokenError, World

if TYPE_CHECKING:
    from tests.property.guard_world import Rules

BATCHES = 4
BATCH = 5_000
"""20,000 schedules with every run of the tests; `python -m tests.bench guard` runs 100,000, these among them."""
ENOUGH = 20_000
"""A mutant that survives this many schedules counts as not found."""

SCHEDULES = st.builds(
    lambda size, floor, table, share, steps, **more: Schedule(size, min(floor, size - 1), table, share, steps, **more),
    st.integers(2, 5),
    st.integers(1, 4),
    st.integers(0, len(TABLES) - 1),
    st.sampled_from((0.3, 1.0)),
    st.lists(st.integers(0, 2**16 - 1), max_size=80),
    settle_s=st.sampled_from((0.0, 3.0)),
    region_floor=st.sampled_from((0, 1)),
    capacity_ratio=st.sampled_from((None, 1.0)),
)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_controllers_never_leave_fewer_than_the_floor(batch: int) -> None:
    found = sweep(range(batch * BATCH, (batch + 1) * BATCH))
    # A guard that allows nothing would pass, too: in every fourth schedule something was withdrawn.
    assert found.withdraws > BATCH / 5
    assert found.held > BATCH


@settings(max_examples=500, deadline=None)
@given(SCHEDULES)
def test_controllers_never_leave_fewer_than_the_floor_and_a_failure_tells_its_story(schedule: Schedule) -> None:
    schedule.run(story=True)


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if not mutant.rare])
def test_the_property_finds_a_safeguard_that_is_missing(name: str) -> None:
    rules = MUTANTS[name].rules
    found = next((one for one in (Schedule.of(seed, STEPS) for seed in range(ENOUGH)) if _breaks(one, rules)), None)
    assert found is not None, f"{name}: not found in {ENOUGH} schedules"
    fewest = shrink(found, rules)
    assert len(fewest.steps) < STEPS
    with pytest.raises(FloorBrokenError) as broken:
        fewest.run(rules, story=True)
    # What a developer would see: who did what, in order; up to a withdraw, or to the permit that would allow one.
    assert any("withdraws" in line or "sends permit" in line for line in broken.value.__notes__)
    fewest.run(REAL)


def _breaks(schedule: Schedule, rules: Rules) -> bool:
    try:
        schedule.run(rules)
    except FloorBrokenError:
        return True
    return False


# The rest of the safeguards is for messages that arrive too late: too rare for chance, so these are told step by step.


class Told:
    """Two PoPs, floor 1; `a` holds a permit ahead of need when the story begins."""

    def __init__(self, rules: Rules) -> None:
        self.world = World(2, 1, rules, share=1.0, story=True)
        self.a, self.b = self.world.pops
        self.settle()
        assert self.stance("a") == "permit"

    def settle(self) -> None:
        for _ in range(3):
            for pop in self.world.pops:
                self.world.watch(pop, 0)
                self.world.turn(pop, 0)
                self.world.exchange(pop, 0)

    def stance(self, name: str) -> str:
        return str(self.world.store.records[name].value.record.stance("vpn"))

    def a_begins_to_give_back(self) -> None:
        """`b` needs room, so `a` sends its return to duty; it has not arrived."""
        self.world.fail(self.b, 0)
        self.world.turn(self.b, 0)
        self.world.exchange(self.b, 0)
        self.world.watch(self.a, 0)
        self.world.turn(self.a, 0)
        assert self.a.request is not None
        self.world.recover(self.b, 0)
        self.world.turn(self.b, 0)
        self.world.exchange(self.b, 0)

    def a_fails(self) -> None:
        """Certainly, and at another stage than `b`, so that nothing looks shared."""
        self.world.fail(self.a, 3)
        self.world.turn(self.a, 0)

    def b_leaves_too(self) -> None:
        self.world.watch(self.b, 0)
        self.world.fail(self.b, 1)
        self.world.turn(self.b, 0)
        self.world.exchange(self.b, 0)
        self.world.turn(self.b, 0)


def _permit_kept_while_given_back(rules: Rules) -> None:
    told = Told(rules)
    told.a_begins_to_give_back()
    told.world.watch(told.a, 0)
    told.a_fails()
    told.world.turn(told.a, 0)
    told.world.arrive(told.a, 0)
    told.b_leaves_too()


def _permit_found_again(rules: Rules) -> None:
    told = Told(rules)
    told.a_begins_to_give_back()
    told.world.time_out(told.a, 0)
    told.a_fails()
    told.world.connect(told.a, 0)
    told.world.turn(told.a, 0)
    told.world.late(told.a, 0)
    told.b_leaves_too()


def _own_record_not_compared(rules: Rules) -> None:
    told = Told(rules)
    told.a_begins_to_give_back()
    told.world.time_out(told.a, 0)
    told.a_fails()
    told.world.connect(told.a, 0)
    told.world.exchange(told.a, 0)
    told.world.late(told.a, 0)
    told.world.turn(told.a, 0)
    told.b_leaves_too()


STORIES = {
    "permit kept while given back": _permit_kept_while_given_back,
    "permit found again": _permit_found_again,
    "own record not compared": _own_record_not_compared,
}


@pytest.mark.parametrize("name", STORIES)
def test_a_message_that_arrives_too_late_takes_nobody_below_the_floor(name: str) -> None:
    STORIES[name](REAL)
    with pytest.raises(FloorBrokenError):
        STORIES[name](MUTANTS[name].rules)


def test_every_rare_safeguard_has_its_story() -> None:
    assert set(STORIES) == {name for name, mutant in MUTANTS.items() if mutant.rare}


def test_a_fleet_whose_probes_fail_everywhere_stays_announced() -> None:
    world = World(5, 1, share=0.2)
    for pop in world.pops:
        world.fail(pop, 0)
    for _ in range(10):
        for pop in world.pops:
            world.watch(pop, 0)
            world.turn(pop, 0)
            world.exchange(pop, 0)
    # All but the one that was first to know.
    assert sum(pop.announced for pop in world.pops) >= 4
    assert world.held
