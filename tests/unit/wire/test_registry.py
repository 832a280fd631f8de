"""Ids are permanent and not given out again while an old SA may carry them."""

from __future__ import annotations

import pytest

from popctl.wire.errors import WireError
from popctl.wire.registry import Tenure, decode, encode, update

DAY = 86400.0


def test_an_id_reused_too_early_is_refused_and_nothing_changes() -> None:
    first, _ = update((), {0: "a", 1: "b"}, now_unix_s=0, longest_sa_s=DAY)
    retired, _ = update(first, {0: "a"}, now_unix_s=100, longest_sa_s=DAY)
    same, problems = update(retired, {0: "a", 1: "c"}, now_unix_s=DAY, longest_sa_s=DAY)
    assert same == retired
    assert [str(p) for p in problems] == [
        (
            "backends.c.id: 1 belongs to 'b', whose SAs may live for another 100 s; "
            "give it an id that was never used, or wait"
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


def test_a_registry_survives_its_file() -> None:
    registry = (Tenure(id=0, name="a"), Tenure(id=1, name="b", retired_unix_s=12.5))
    assert decode(encode(registry)) == registry


@pytest.mark.parametrize(
    "text", ["", "{}", '{"ids": [{"id": 1}]}', '{"ids": [{"id": "1", "name": "a"}]}', '{"ids": [7]}', "[]"]
)
def test_a_damaged_registry_raises_only_wire_errors(text: str) -> None:
    with pytest.raises(WireError):
        decode(text)


def test_two_holders_of_one_id_are_damage() -> None:
    with pytest.raises(WireError):
        decode(encode((Tenure(id=0, name="a"), Tenure(id=0, name="b"))))
