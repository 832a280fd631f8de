"""What `popctl plan` says, to the last figure, about an Internet of five ASes that one can keep in mind."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from popctl.cli.main import run as popctl
from popctl.wire import playbook as wire

Document: TypeAlias = dict[str, Any]

# 10 in the east and 20 in the west peer. 11 and 21 are their clients; 30 in the west is a client of both, so for it the
# PoPs are tied and the nearest is taken.
INTERNET = "10|20|0\n10|11|-1\n20|21|-1\n10|30|-1\n20|30|-1\n# region|east|10 11\n# region|west|20 21 30\n"
DEMAND = "asn,sessions\n11,600\n21,300\n30,60\n99,5\n"
CAPACITY = {"sessions": 1000, "bit_s": 10**9, "handshakes_s": 100}
FLEET: Document = {
    "name": "two",
    "asn": 64500,
    "regions": {"east": [0, 90], "west": [0, -90]},
    "pops": [
        {"name": "e1", "region": "east", "capacity": CAPACITY, "sessions": [{"upstream": 10}]},
        {"name": "w1", "region": "west", "capacity": CAPACITY, "sessions": [{"upstream": 20}]},
    ],
}


class Planner:
    """Runs commands in a folder with the five ASes."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.write(FLEET)
        (folder / "internet.txt").write_text(INTERNET)
        (folder / "demand.csv").write_text(DEMAND)

    def write(self, fleet: Document) -> None:
        (self.folder / "fleet.json").write_text(json.dumps(fleet))

    def __call__(self, *tokens: str) -> tuple[int, str, str]:
        files = {"--internet": "internet.txt", "--fleet": "fleet.json", "--demand": "demand.csv", "--cache": "cache"}
        options = [part for option, name in files.items() for part in (option, str(self.folder / name))]
        self._capsys.readouterr()
        code = popctl(["plan", *tokens, *options])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *tokens: str) -> tuple[int, Any]:
        code, out, _ = self(*tokens, "--json")
        return code, json.loads(out)


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Planner:
    return Planner(tmp_path, capsys)


def load(sessions: int, certain: int) -> Document:
    handshakes_s = -(-sessions // 3600)
    return {"sessions": sessions, "certain": certain, "bit_s": sessions * 200_000, "handshakes_s": handshakes_s}


def pop(
    before: int,
    after: int,
    *,
    certain: int,
    was_certain: int,
    storm: int = 0,
    moved_out: int = 0,
    announced: bool = True,
) -> Document:
    """The entry of a PoP; `storm` sessions come within the minute that they have to connect again."""
    return {
        "announced": announced,
        "before": load(before, was_certain),
        "after": load(after, certain),
        "reconnect_handshakes_s": -(-after // 3600) + -(-storm // 60),
        "capacity": CAPACITY,
        "utilisation": {"before": before / 1000, "after": after / 1000},
        "moved_in": storm,
        "moved_out": moved_out,
    }


def answer(question: str, pops: Document, *, moved: int, certain: int, detour: int) -> Document:
    return {
        "question": question,
        "safe": True,
        "findings": [],
        "moved": moved,
        "unreached": {"before": 0, "after": 0, "lost": 0},
        "certain": certain,
        "measured": 0,
        "outside": 5,
        "farthest_detour_km": detour,
        "pops": pops,
    }


HALF_WAY_ROUND = 20015
WITHDRAWN = {
    "withdraw e1": answer(
        "withdraw e1",
        {
            "e1": pop(600, 0, certain=0, was_certain=600, moved_out=600, announced=False),
            "w1": pop(360, 960, certain=960, was_certain=300, storm=600),
        },
        moved=600,
        certain=960,
        detour=HALF_WAY_ROUND,
    ),
    "withdraw w1": answer(
        "withdraw w1",
        {
            "e1": pop(600, 960, certain=960, was_certain=600, storm=360),
            "w1": pop(360, 0, certain=0, was_certain=300, moved_out=360, announced=False),
        },
        moved=360,
        certain=960,
        detour=HALF_WAY_ROUND,
    ),
}
PREPENDED = {
    "e1": pop(600, 660, certain=660, was_certain=600, storm=60),
    "w1": pop(360, 300, certain=300, was_certain=300, moved_out=60),
}
NO_CYCLES: Document = {"collapsed": []}


def over(safe: Document, name: str) -> Document:
    """The answer with the one danger that a lower limit makes of it."""
    return safe | {"safe": False, "findings": [{"danger": "newly-overloaded", "pop": name}]}


def test_a_withdraw_is_told_to_the_last_figure(plan: Planner) -> None:
    assert plan.json("withdraw", "e1") == (0, WITHDRAWN["withdraw e1"] | NO_CYCLES)


def test_the_limit_decides_what_is_overloaded(plan: Planner) -> None:
    assert plan.json("withdraw", "e1", "--limit", "0.96")[0] == 0
    assert plan.json("withdraw", "e1", "--limit", "0.95") == (3, over(WITHDRAWN["withdraw e1"], "w1") | NO_CYCLES)


def test_one_and_two_down_are_as_safe_as_their_worst_answer(plan: Planner) -> None:
    both = list(WITHDRAWN.values())
    assert plan.json("n-1") == (0, {"safe": True, **NO_CYCLES, "answers": both})
    bad = [over(both[0], "w1"), over(both[1], "e1")]
    assert plan.json("n-1", "--limit", "0.9") == (3, {"safe": False, **NO_CYCLES, "answers": bad})
    code, found = plan.json("n-2")
    assert (code, found["safe"]) == (3, False)
    (one,) = found["answers"]
    assert one["question"] == "withdraw e1+w1"
    assert one["unreached"] == {"before": 0, "after": 960, "lost": 960}
    assert one["findings"] == [{"danger": "nothing-announced", "pop": None}, {"danger": "unreached", "pop": None}]


def test_a_prepend_is_towards_one_upstream_or_all(plan: Planner) -> None:
    wanted = answer("prepend w1 +2 to AS20", PREPENDED, moved=60, certain=960, detour=HALF_WAY_ROUND)
    assert plan.json("prepend", "w1", "--times", "2", "--upstream", "20") == (0, wanted | NO_CYCLES)
    assert plan.json("prepend", "w1", "--times", "2") == (0, wanted | {"question": "prepend w1 +2"} | NO_CYCLES)
    assert plan.json("prepend", "w1", "--limit", "0.65")[0] == 3


def test_prepends_come_on_top_of_those_of_the_fleet_file(plan: Planner) -> None:
    """11 and 30 reach e1 over 10 anyway, so that 30 is w1's only while w1 prepends no more often than e1 does."""
    own = [one | {"sessions": [one["sessions"][0] | {"prepend": 3}]} for one in FLEET["pops"]]
    plan.write(FLEET | {"pops": own})
    code, found = plan.json("prepend", "w1", "--times", "2")
    assert (code, found["pops"]) == (0, PREPENDED)
    assert plan.json("prepend", "w1", "--times", "0")[1]["moved"] == 0


def test_what_a_session_costs_is_said_in_the_fleet_file(plan: Planner) -> None:
    """Of 1 Gbit/s 960 sessions of 1.1 Mbit/s want too much, though there is room for as many sessions."""
    plan.write(FLEET | {"profile": {"bit_s_per_session": 1_100_000, "handshake_interval_s": 60}})
    code, found = plan.json("withdraw", "e1")
    assert (code, found["findings"]) == (3, [{"danger": "newly-overloaded", "pop": "w1"}])
    after = found["pops"]["w1"]
    assert after["after"]["bit_s"] == 960 * 1_100_000
    assert after["utilisation"] == {"before": 0.396, "after": 1.056}
    assert (after["after"]["handshakes_s"], after["reconnect_handshakes_s"]) == (16, 16 + 10)
    assert plan.json("load")[1]["pops"]["e1"]["bit_s"] == 660_000_000


def test_a_playbook_has_the_reconnect_window_of_the_fleet(plan: Planner) -> None:
    plan.write(FLEET | {"profile": {"reconnect_window_s": 600}})
    out = plan.folder / "playbook.json"
    assert plan("playbook", "--out", str(out))[0] == 0
    assert wire.decode(out.read_bytes()).reconnect_window_s == 600


def test_a_pop_more_is_unsafe_where_it_gets_too_much(plan: Planner) -> None:
    new = {"name": "e2", "region": "east", "capacity": CAPACITY | {"sessions": 500}, "sessions": [{"upstream": 11}]}
    (plan.folder / "new.json").write_text(json.dumps(new))
    code, found = plan.json("add-pop", str(plan.folder / "new.json"))
    assert (code, found["question"], found["moved"]) == (3, "add e2", 600)
    assert found["findings"] == [{"danger": "newly-overloaded", "pop": "e2"}]
    assert found["pops"]["e2"]["after"]["sessions"] == found["pops"]["e2"]["moved_in"] == 600
    assert found["pops"]["e1"]["moved_out"] == 600


def test_load_is_told_to_the_last_figure(plan: Planner) -> None:
    code, found = plan.json("load")
    assert code == 0
    assert found == {
        "unreached": 0,
        "outside": 5,
        **NO_CYCLES,
        "pops": {
            "e1": load(600, 600) | {"capacity": CAPACITY},
            "w1": load(360, 300) | {"capacity": CAPACITY},
        },
        "at_risk": [{"asn": 30, "sessions": 60, "pop": "w1", "possible": ["e1", "w1"]}],
    }


def test_the_table_has_what_changes_and_why_it_is_unsafe(plan: Planner) -> None:
    code, text, _ = plan("withdraw", "e1", "--limit", "0.95")
    assert code == 3
    for word in ("withdraw e1", "600", "960", "withdrawn", "36% -> 96%", "20,015 km", "newly-overloaded w1"):
        assert word in text, word


def test_the_table_of_loads_has_every_resource(plan: Planner) -> None:
    _, text, _ = plan("load")
    for word in ("0.1 of 1.0", "1 of 100", "1,000", "60%", "36%"):
        assert word in text, word


def test_a_circle_of_providers_is_named_to_the_user(plan: Planner) -> None:
    (plan.folder / "internet.txt").write_text(INTERNET + "11|41|-1\n41|42|-1\n42|43|-1\n43|41|-1\n")
    said = "these ASes are providers in a circle and count as one: 41 42 43"
    # The second time the graph comes from the cache.
    for _ in range(2):
        code, out, err = plan("withdraw", "e1", "--json")
        assert (code, json.loads(out)["collapsed"]) == (0, [[41, 42, 43]])
        assert said in err
    assert plan.json("load")[1]["collapsed"] == plan.json("n-1")[1]["collapsed"] == [[41, 42, 43]]


def test_a_circle_of_providers_is_named_by_fit(plan: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    ring = plan.folder / "ring.txt"
    ring.write_text("".join(f"{one}|{one % 30 + 1}|-1\n" for one in range(1, 31)))
    popctl(["topology", "fit", "--internet", str(ring), "--cache", str(plan.folder / "cache"), "--json"])
    out, err = capsys.readouterr()
    json.loads(out)
    assert "count as one: 1 2 3 4 5 6 7 8 9 10 11 12 and 18 more" in err


def test_the_problems_of_all_files_are_told_at_once(plan: Planner) -> None:
    measured = plan.folder / "measured.csv"
    measured.write_text("asn,pop,sessions\n11,x1,1\n")
    (plan.folder / "demand.csv").write_text("asn,sessions\n11,-1\n")
    plan.write(FLEET | {"pops": [*FLEET["pops"], FLEET["pops"][0] | {"name": "e2", "sessions": [{"upstream": 77}]}]})
    code, _, err = plan("load", "--measured", str(measured))
    assert code == 1
    for said in (
        "demand.csv:2: sessions",
        "fleet.json:1: session e2-as77: AS 77",
        "measured.csv:2: no PoP is named 'x1'",
    ):
        assert said in err
    plan.write(FLEET | {"asn": 0})
    (plan.folder / "internet.txt").write_text("10|10|0\n")
    code, _, err = plan("load")
    assert (code, len(err.splitlines())) == (1, 2)
    assert "internet.txt:1: AS 10" in err
    assert "fleet.json:1: asn" in err


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_map_shows_every_pop_its_share_and_how_full_it_is_before_and_after(plan: Planner) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - not installed everywhere

    out = plan.folder / "map.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        assert plan("map", "--out", str(out), "--withdraw", "e1")[0] == 0
    drawn = out.read_text()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    # Of 960 sessions 600 and 360; ticks and labels of the axes besides.
    wanted = {"before", "e1 62%", "w1 38%", "withdraw e1", "e1 0%", "w1 100%"}
    assert wanted <= set(texts)
    assert {text.split()[0] for text in texts if "%" in text} == {"e1", "w1"}
    fine, hot, idle = "#1a73e8", "#f9ab00", "#9aa0a6"
    circles = re.findall(r"<g id=\"PathCollection_\d+\">.*?fill: (#\w+)", drawn, flags=re.DOTALL)
    assert circles == [fine, fine, idle, hot]
