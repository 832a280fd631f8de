"""The one way in which tests wait."""

import itertools

import pytest

from tests.eventually import eventually, eventually_async


def test_it_returns_the_first_true_answer() -> None:
    answers = itertools.count()
    assert eventually(lambda: next(answers) == 3, within_s=5, every_s=0)


def test_it_reports_the_last_answer_at_the_bound() -> None:
    with pytest.raises(AssertionError, match="last answer was None"):
        eventually(lambda: None, within_s=0)


def test_a_failed_assertion_is_tried_again_and_shown_in_the_end() -> None:
    def check() -> bool:
        raise AssertionError("three routes, not two")

    with pytest.raises(AssertionError, match="three routes"):
        eventually(check, within_s=0.01, every_s=0)


def test_any_other_error_is_a_bug_and_passes_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0, within_s=5)


async def test_the_asynchronous_form_takes_plain_functions_and_coroutines() -> None:
    answers = itertools.count()

    async def check() -> bool:
        return next(answers) == 3

    assert await eventually_async(check, within_s=5, every_s=0)
    assert await eventually_async(lambda: True, within_s=0)
    with pytest.raises(AssertionError, match="last answer was False"):
        await eventually_async(lambda: False, within_s=0)
