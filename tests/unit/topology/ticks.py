"""A moment of a simulation in which all is well, for runs made by hand."""

from __future__ import annotations

from topology.simulation.record import Tick

WELL = Tick(
    at_s=0.0,
    demand=1000,
    lost=0,
    unreached=0,
    waiting=0,
    moved=0,
    overloaded=0,
    hottest=0.5,
    announced_capacity=1500,
    largest_announced=200,
    announced_pops=8,
    storm_pops=0,
    acts=0,
    conserved=True,
)
