"""Schedules for the fleet in a box: made from a seed, told as a story, shrunk to what matters."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.property.guard_world import REAL, FloorBrokenError, PopInTheBox, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.property.guard_world import Act, Rules


STEPS = 48
"""Of every schedule that is made from a seed."""


def rare(world: World, pop: PopInTheBox, x: int) -> None:
    """Let one of the rarest things happen; which one, the step's own bits say."""
    (World.deadman, World.crash_host)[x & 1](world, pop, x >> 1)


_ALWAYS = {World.turn: 16, World.exchange: 10, World.watch: 8, World.fail: 5, World.connect: 4, World.tick: 3}
_SOMETIMES = {
    World.arrive: 4,
    World.answer: 2,
    World.time_out: 4,
    World.late: 4,
    World.cut: 2,
    World.notice: 2,
    World.heal: 2,
    World.recover: 4,
    World.operate: 2,
    World.release: 2,
    World.heat: 2,
    World.cool: 1,
    World.crash_agent: 1,
    World.restart: 2,
    World.jump: 2,
    World.lose_bgp: 2,
    World.regain_bgp: 2,
    rare: 1,
}


def _table(number: int) -> tuple[Act, ...]:
    """Return 64 acts. Each table leaves half of the rarer ones out, so that the others meet more often."""
    if number == 0:
        often = _ALWAYS | _SOMETIMES
    else:
        rng = Random(number)
        often = {act: times * rng.randint(1, 2) for act, times in _ALWAYS.items()}
        often |= {act: times * rng.randint(1, 3) for act, times in _SOMETIMES.items() if rng.random() < 0.5}
    acts = [act for act, times in often.items() for _ in range(times)]
    return tuple(acts[number * len(acts) // 64] for number in range(64))


TABLES = tuple(_table(number) for number in range(64))


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that a run depends on."""

    size: int
    floor: int
    table: int
    share: float
    steps: Sequence[int]
    settle_s: float = 0.0
    region_floor: int = 0
    """PoPs of each of two regions; 0: regions do not matter."""
    capacity_ratio: float | None = None

    @classmethod
    def of(cls, seed: int, length: int) -> Schedule:
        """Return the schedule of a seed."""
        rng = Random(seed)
        size = rng.choice((2, 2, 3, 3, 3, 4, 5))
        floor = rng.choice((1, size - 1, rng.randint(1, size - 1)))
        steps = array("H", rng.randbytes(2 * length))
        return cls(
            size,
            floor,
            rng.randrange(len(TABLES)),
            rng.choice((0.3, 1.0, 1.0)),
            steps,
            settle_s=rng.choice((0.0, 0.0, 3.0)),
            region_floor=rng.choice((0, 0, 1)) if size > 2 else 0,
            capacity_ratio=rng.choice((None, None, None, 1.0)),
        )

    def run(self, rules: Rules = REAL, *, story: bool = False) -> World:
        """Let it happen. Raises `FloorBrokenError`; with `story`, the world has told what happened."""
        world = World(
            self.size,
            self.floor,
            rules,
            share=self.share,
            settle_s=self.settle_s,
            region_floor=self.region_floor,
            capacity_ratio=self.capacity_ratio,
            story=story,
        )
        try:
            return world.run(self.steps, TABLES[self.table])
        except FloorBrokenError as broken:
            for line in world.story or ():
                broken.add_note(line)
            raise


class Sweep(NamedTuple):
    """What happened in many schedules, none of which broke the floor."""

    withdraws: int
    held: int


def sweep(seeds: Iterable[int]) -> Sweep:
    """Run the schedule of every seed. Raises `FloorBrokenError` for the first that breaks the floor, with its story."""
    withdraws = held = 0
    for seed in seeds:
        schedule = Schedule.of(seed, STEPS)
        try:
            world = schedule.run()
        except FloorBrokenError as broken:
            broken.add_note(f"seed {seed}")
            shrink(schedule).run(story=True)
            raise
        withdraws += world.withdraws
        held += world.held
    return Sweep(withdraws, held)


def shrink(schedule: Schedule, rules: Rules = REAL) -> Schedule:
    """Return a schedule that still breaks the floor, and would not with any one step less."""
    steps = list(schedule.steps)
    width = len(steps)
    while width:
        begin = 0
        while begin < len(steps):
            fewer = steps[:begin] + steps[begin + width :]
            if _breaks(replace(schedule, steps=fewer), rules):
                steps = fewer
            else:
                begin += width
        width //= 2
    return replace(schedule, steps=steps)


def _breaks(schedule: Schedule, rules: Rules) -> bool:
    try:
        schedule.run(rules)
    except FloorBrokenError:
        return True
    return False
