"""Does a plan hold together? Questions that need more than one value to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from lab.errors import Problem
from lab.plan import LINUX, Milestone, Plan, Stage

_ORDER = tuple(Stage)


def check(plan: Plan) -> list[Problem]:
    """Return every contradiction of a plan."""
    return [*_unknown_ends(plan), *_doubled_interfaces(plan), *_bad_waits(plan), *_circles(plan)]


def _unknown_ends(plan: Plan) -> Iterator[Problem]:
    for index, link in enumerate(plan.links):
        for end in link.ends:
            if end.node not in plan.nodes:
                yield Problem(
                    key=f"topology.links[{index}].endpoints", found=str(end), remedy="name a node of this file"
                )


def _doubled_interfaces(plan: Plan) -> Iterator[Problem]:
    ends = Counter(str(end) for link in plan.links for end in link.ends)
    for end, count in ends.items():
        if count > 1:
            yield Problem(key="topology.links", found=end, remedy="use every interface once")


def _bad_waits(plan: Plan) -> Iterator[Problem]:
    for node in plan.nodes.values():
        for stage, milestones in node.waits.items():
            for milestone in milestones:
                key = f"topology.nodes.{node.name}.stages.{stage}.wait-for"
                target = plan.nodes.get(milestone.node)
                if target is None or target.kind != LINUX:
                    yield Problem(key=key, found=milestone.node, remedy="wait for a linux node of this file")
                elif milestone.stage is Stage.HEALTHY and target.healthcheck is None:
                    yield Problem(key=key, found=milestone.node, remedy="give that node a healthcheck")


def _circles(plan: Plan) -> Iterator[Problem]:
    """A stage needs the stage before it and whatever it waits for."""
    order: TopologicalSorter[Milestone] = TopologicalSorter()
    for node in plan.nodes.values():
        for before, stage in zip((None, *_ORDER), _ORDER, strict=False):
            earlier = [Milestone(node.name, before)] if before else []
            order.add(Milestone(node.name, stage), *earlier, *node.waits.get(stage, ()))
    try:
        order.prepare()
    except CycleError as error:
        circle = " <- ".join(f"{milestone.node} {milestone.stage}" for milestone in error.args[1])
        yield Problem(key="topology.nodes", found=circle, remedy="break the circle of wait-for")
