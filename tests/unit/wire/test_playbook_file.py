"""The playbook file: what is read, what is refused and where, and that it comes back unchanged."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from popctl.model.playbook import DEFAULT_LADDER, Flow, Origin, StepKey
from popctl.model.pop import Announce
from popctl.wire import playbook
from popctl.wire.errors import WireError

GOOD: dict[str, Any] = {
    "format": "popctl-playbook",
    "version": 1,
    "fleet": "example",
    "created_unix_s": 1_760_000_000,
    "pops": {
        "fra1": {
            "levels": [
                {"name": "normal"},
                {"name": "as1299 depreferred", "upstreams": {"1299": "depreferred"}},
                {"name": "withdrawn", "others": "withdrawn"},
            ],
            "steps": [
                {"from": 0, "to": 1, "error": 0.2, "flows": [["fra1", "ams1", 0.25], ["fra1", None, 0.01]]},
                {"from": 0, "to": 1, "when": {"ams1": 1}, "flows": [["fra1", "ams1", 0.1]]},
                {"from": 1, "to": 0, "origin": "measured", "flows": [["ams1", "fra1", 0.1]]},
            ],
        },
        "ams1": {},
    },
}


def test_the_documented_form_is_read() -> None:
    book = playbook.decode(json.dumps(GOOD))
    assert (book.fleet, book.created_unix_s, book.reconnect_window_s) == ("example", 1.76e9, 60.0)
    assert book.ladders["ams1"] == DEFAULT_LADDER
    assert book.ladders["fra1"][1].rung(1299) is Announce.DEPREFERRED
    assert book.ladders["fra1"][1].rung(174) is Announce.NORMAL
    alone, beside = book.steps[StepKey("fra1", 0, 1)]
    assert alone.flows == (Flow("fra1", "ams1", 0.25), Flow("fra1", None, 0.01))
    assert (alone.when, beside.when, alone.error) == ({}, {"ams1": 1}, 0.2)
    assert book.steps[StepKey("fra1", 1, 0)][0].origin is Origin.MEASURED


def test_what_was_written_is_read_back_the_same() -> None:
    book = playbook.decode(json.dumps(GOOD))
    assert playbook.decode(playbook.encode(book)) == book


def _changed(path: str, value: object) -> str:
    body = copy.deepcopy(GOOD)
    *way, last = [int(word) if word.isdigit() else word for word in path.split("/")]
    place: Any = body
    for word in way:
        place = place[word]
    place[last] = value
    return json.dumps(body)


STEP = "pops/fra1/steps/0"
LEVEL = "pops/fra1/levels/1"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("format", "other", "format: not 'popctl-playbook'"),
        ("version", 2, "version: not 1"),
        ("version", True, "version: not 1"),
        ("fleet", "", "fleet: not a printable name"),
        ("fleet", "a\nb", "fleet: not a printable name"),
        ("created_unix_s", "now", "created_unix_s: not a number"),
        ("created_unix_s", -1, "created_unix_s: not in 0..1e+12"),
        ("created_unix_s", 10**400, "created_unix_s: not in"),
        ("pops", {}, "pops: not an object with at least one PoP"),
        ("extra", 1, "top: unknown key"),
        ("pops/fra1/levels", [], "pops.fra1.levels: not 1..32 levels"),
        ("pops/fra1/levels/0", {"name": "n", "others": "withdrawn"}, "pops.fra1.levels[0]: level 0 is not normal"),
        ("pops/fra1/levels/2", {"name": "n"}, "pops.fra1.levels[2]: milder for some upstream"),
        (f"{LEVEL}/name", "normal", "pops.fra1.levels[1].name: the name of an earlier level"),
        (f"{LEVEL}/upstreams", {"x": "normal"}, "not an AS number"),
        (f"{LEVEL}/upstreams", {"01299": "depreferred"}, "pops.fra1.levels[1].upstreams: not an AS number"),
        (f"{LEVEL}/upstreams", {"0": "depreferred"}, "pops.fra1.levels[1].upstreams: not an AS number"),
        (f"{LEVEL}/upstreams", {"4294967296": "depreferred"}, "pops.fra1.levels[1].upstreams: not an AS number"),
        (f"{LEVEL}/upstreams", {"1299": "gone"}, "pops.fra1.levels[1].upstreams.1299: none of normal"),
        (f"{STEP}/to", 2, "pops.fra1.steps[0]: a step goes to the next level"),
        (f"{STEP}/to", 3, "pops.fra1.steps[0].to: not a whole number of 0..2"),
        (f"{STEP}/to", True, "pops.fra1.steps[0].to: not a whole number"),
        (f"{STEP}/error", -0.1, "pops.fra1.steps[0].error: not in"),
        (f"{STEP}/origin", "guessed", "pops.fra1.steps[0].origin: none of measured"),
        (f"{STEP}/when", {"fra1": 1}, "names the PoP that steps"),
        (f"{STEP}/when", {"par1": 1}, "no PoP of that name"),
        (f"{STEP}/when", {"ams1": 1}, "pops.fra1.steps[1]: the same step under the same conditions"),
        (f"{STEP}/flows", [["fra1", "par1", 0.1]], "no PoP of that name"),
        (f"{STEP}/flows", [["fra1", "fra1", 0.1]], "from a PoP to itself"),
        (f"{STEP}/flows", [["fra1", 0.1]], "not [source, target, share]"),
        (f"{STEP}/flows", [["fra1", "ams1", 1.1]], "not in 0..1"),
        (f"{STEP}/flows", [["fra1", "ams1", 0.6], ["fra1", None, 0.6]], "more than all of what fra1 carries"),
        (f"{STEP}/flows", [["fra1", "ams1", 0.6], ["fra1", "ams1", 0.1]], "same source and target stand twice"),
        (f"{STEP}/flows", None, "pops.fra1.steps[0].flows: not a list"),
    ],
)
def test_every_mistake_is_refused_with_its_key_path(path: str, value: object, problem: str) -> None:
    with pytest.raises(WireError) as caught:
        playbook.decode(_changed(path, value))
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[" * 5000,
        b'{"a": 1, "a": 2}',
        b'{"format": NaN}',
        b'{"version": ' + b"9" * 5000 + b"}",
        b"[]",
        b'{"pops": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_what_is_no_playbook_at_all_is_one_wire_error(text: bytes) -> None:
    with pytest.raises(WireError):
        playbook.decode(text)


def test_a_level_is_shown_as_the_severest_rung_that_still_announces() -> None:
    levels = playbook.decode(json.dumps(GOOD)).ladders["fra1"]
    assert [level.summary for level in levels] == [Announce.NORMAL, Announce.DEPREFERRED, Announce.WITHDRAWN]
    assert [level.withdrawn for level in levels] == [False, False, True]
