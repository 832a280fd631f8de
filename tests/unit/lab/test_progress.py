"""Nodes that wait for one another."""

import threading

import pytest

from lab.errors import LabError
from lab.plan import Milestone, Stage
from lab.progress import AbortedError, Progress

CREATED = Milestone("a", Stage.CREATE)


def test_waiting_ends_when_another_thread_reaches_the_milestone() -> None:
    progress = Progress()
    other = threading.Timer(0.01, progress.reach, [CREATED])
    other.start()
    progress.wait_for([CREATED], within_s=5)
    other.join()


def test_a_milestone_that_does_not_come_is_named() -> None:
    with pytest.raises(LabError, match="a create"):
        Progress().wait_for([CREATED], within_s=0.01)


def test_one_failure_ends_the_waiting_of_all() -> None:
    progress = Progress()
    progress.abort()
    with pytest.raises(AbortedError):
        progress.wait_for([CREATED], within_s=5)
    with pytest.raises(AbortedError):
        progress.pause(5)
