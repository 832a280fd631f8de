"""containerlab's substitution and inheritance."""

import pytest

from lab.inherit import expand, merge

ENV = {"set": "value", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$set ${set}", "value value"),
        ("[$unset] [${unset}]", "[] []"),
        ("${unset:-d} ${empty:-d} ${set:-d}", "d d value"),
        ("${unset:=d} ${empty:=d} ${set:=d}", "d d value"),
        ("${unset-d} [${empty-d}] ${set-d}", "d [] value"),
        ("${unset=d} [${empty=d}] ${set=d}", "d [] value"),
        ("[${unset:+o}] [${empty:+o}] ${set:+o}", "[] [] o"),
        ("$$set costs 5$", "$set costs 5$"),
    ],
)
def test_variables_expand_as_containerlab_expands_them(text: str, expected: str) -> None:
    assert expand(text, ENV) == expected


def test_maps_merge_key_by_key_and_the_particular_wins() -> None:
    merged = merge([{"env": {"a": 1, "b": 1}}, {"env": {"b": 2}}, {"env": {"c": 3}}])
    assert merged == {"env": {"a": 1, "b": 2, "c": 3}}


def test_lists_join_from_the_general_to_the_particular_without_duplicates() -> None:
    assert merge([{"exec": ["a", "b"]}, {"exec": ["b", "c"]}]) == {"exec": ["a", "b", "c"]}


def test_of_two_binds_with_one_target_the_more_particular_one_wins() -> None:
    merged = merge([{"binds": ["x:/etc/a:ro", "y:/etc/b"]}, {"binds": ["z:/etc/a"]}])
    assert merged == {"binds": ["z:/etc/a", "y:/etc/b"]}


def test_plain_values_are_replaced_and_null_says_nothing() -> None:
    assert merge([{"image": "a", "cmd": "x"}, {"image": "b", "cmd": None}]) == {"image": "b", "cmd": "x"}
