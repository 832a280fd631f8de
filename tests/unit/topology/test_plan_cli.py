"""`popctl plan` and `popctl topology` as a user runs them, on a small generated Internet."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popctl.cli.plan import plan_app, topology_app
from popctl.model.playbook import DEFAULT_LADDER
from popctl.wire import playbook as wire

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    options = ["--internet", str(folder / "i.gz"), "--fleet", str(folder / "f.json")]
    assert topology_app(["generate", "--ases", "600", "--pops", "4", *options], result_action="return_value") == 0
    return folder


class Runner:
    """Runs commands on one world."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *tokens: str) -> tuple[int, str]:
        files = {"--internet": "i.gz", "--fleet": "f.json", "--cache": "cache"}
        options = [part for option, name in files.items() for part in (option, str(self.folder / name))]
        self._capsys.readouterr()
        code = plan_app([*tokens, *options], result_action="return_value", exit_on_error=False)
        out, err = self._capsys.readouterr()
        return code, out + err

    def json(self, *tokens: str) -> tuple[int, Any]:
        code, text = self(*tokens, "--json")
        return code, json.loads(text)


@pytest.fixture
def run(world: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(world, capsys)


def test_a_question_exits_0_when_safe_and_3_when_not(run: Runner) -> None:
    codes = {name: run.json("withdraw", name) for name in ("pop001", "pop002", "pop003", "pop004")}
    for code, answer in codes.values():
        assert code == (0 if answer["safe"] else 3)
        assert answer["safe"] == (not answer["findings"])
    code, answer = run.json("prepend", "pop001", "--times", "0")
    assert (code, answer["safe"], answer["moved"]) == (0, True, 0)


def test_no_session_is_lost_in_an_answer(run: Runner) -> None:
    _, answer = run.json("withdraw", "pop001", "pop002")
    before, after = (sum(pop[when]["sessions"] for pop in answer["pops"].values()) for when in ("before", "after"))
    assert before + answer["unreached"]["before"] == after + answer["unreached"]["after"]
    assert answer["pops"]["pop001"]["after"]["sessions"] == 0


def test_tables_name_the_question_and_the_verdict(run: Runner) -> None:
    code, text = run("withdraw", "pop001")
    assert "withdraw pop001" in text
    assert ("unsafe:" in text) == (code == 3)
    assert "questions" in run("n-1")[1]
    assert "may flip" in run("load")[1]


def test_one_down_asks_about_every_pop_and_two_down_about_the_top_pairs(run: Runner) -> None:
    _, one = run.json("n-1")
    assert len(one["answers"]) == 4
    _, two = run.json("n-2", "--top", "3")
    assert len(two["answers"]) == 3
    assert all(len(answer["pops"]) == 4 for answer in two["answers"])


def test_load_lists_the_ases_that_may_flip(run: Runner) -> None:
    code, found = run.json("load", "--risks", "5")
    assert code == 0
    assert set(found["pops"]) == {"pop001", "pop002", "pop003", "pop004"}
    assert len(found["at_risk"]) == 5
    assert all(len(risk["possible"]) >= 2 and risk["pop"] in risk["possible"] for risk in found["at_risk"])


def test_adding_a_pop_moves_sessions_to_it(run: Runner, tmp_path: Path) -> None:
    fleet = json.loads((run.folder / "f.json").read_text())
    new = fleet["pops"][0] | {"name": "new1"}
    for session in new["sessions"]:
        del session["name"]
    (tmp_path / "pop.json").write_text(json.dumps(new))
    _, answer = run.json("add-pop", str(tmp_path / "pop.json"))
    assert answer["question"] == "add new1"
    assert answer["pops"]["new1"]["before"]["sessions"] == 0
    assert sum(pop["before"]["sessions"] for pop in answer["pops"].values()) > 0


def test_the_playbook_is_what_an_agent_reads(run: Runner, tmp_path: Path) -> None:
    out = tmp_path / "book.json"
    before = time.time()
    code, text = run("playbook", "--out", str(out))
    assert code == 0
    book = wire.decode(out.read_bytes())
    assert book.fleet == "example"
    assert before - 1 <= book.created_unix_s <= time.time()
    assert book.ladders == dict.fromkeys(("pop001", "pop002", "pop003", "pop004"), DEFAULT_LADDER)
    assert len(book.steps) == 4 * 6
    assert "fleet 'example', 4 PoPs, 24 steps" in text
    assert list(tmp_path.iterdir()) == [out]


def test_a_playbook_can_be_made_for_planned_ladders_and_for_pops_that_have_stepped(run: Runner, tmp_path: Path) -> None:
    out = tmp_path / "book.json"
    assert run("playbook", "--out", str(out), "--ladders", "planned", "--at", "pop002=1")[0] == 0
    book = wire.decode(out.read_bytes())
    assert all(any(level.upstreams for level in ladder) for ladder in book.ladders.values())
    assert {step.when["pop002"] for (step,) in book.steps.values() if "pop002" in step.when} == {1}


@pytest.mark.parametrize(
    ("word", "wanted"), [("pop002=9", "pop002 has the levels 0 to 3"), ("pop9=1", "not POP=LEVEL"), ("x", "not POP=")]
)
def test_a_level_that_is_not_on_the_ladder_is_refused(run: Runner, tmp_path: Path, word: str, wanted: str) -> None:
    code, text = run("playbook", "--out", str(tmp_path / "book.json"), "--at", word)
    assert (code, list(tmp_path.iterdir())) == (5, [])
    assert wanted in text


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda fleet: fleet.pop("name"), "fleet.json:1: name is missing"),
        (lambda fleet: fleet["pops"][0].update(name="x" * 200), "no agent could read it: pops: not a printable name"),
    ],
)
def test_a_playbook_that_no_agent_would_take_is_not_written(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], None], wanted: str
) -> None:
    fleet = json.loads((world / "f.json").read_text())
    change(fleet)
    (tmp_path / "fleet.json").write_text(json.dumps(fleet))
    out = tmp_path / "book.json"
    options = ["--internet", str(world / "i.gz"), "--cache", str(world / "cache"), "--fleet"]
    options += [str(tmp_path / "fleet.json"), "--out", str(out)]
    assert plan_app(["playbook", *options], result_action="return_value") == 1
    assert wanted in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")
@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_map_is_drawn(run: Runner, tmp_path: Path, suffix: str, start: bytes) -> None:
    out = tmp_path / f"map{suffix}"
    assert run("map", "--out", str(out), "--withdraw", "pop001")[0] == 0
    assert out.read_bytes().startswith(start)


def test_measured_sessions_are_used(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("asn,pop,sessions\n" + "".join(f"{asn},pop002,1000\n" for asn in range(1, 601)))
    _, found = run.json("load", "--measured", str(path))
    sessions = {name: pop["sessions"] for name, pop in found["pops"].items()}
    assert sessions["pop002"] == sum(sessions.values())


def test_the_lines_of_the_readme_do_with_their_defaults_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert topology_app(["generate"], result_action="return_value") == 0
    assert "internet.txt.gz: 80000 ASes" in capsys.readouterr().out
    code = plan_app(["withdraw", "pop003", "--json"], result_action="return_value")
    answer = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["safe"] else 3)
    assert answer["pops"]["pop003"]["after"]["sessions"] == 0
    assert answer["moved"] == answer["pops"]["pop003"]["before"]["sessions"] > 0
    assert len(answer["pops"]) == 20


def test_demand_from_a_file_is_used(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text("asn,sessions\n" + "".join(f"{asn},2\n" for asn in range(1, 601)))
    _, found = run.json("load", "--demand", str(path))
    assert sum(pop["sessions"] for pop in found["pops"].values()) + found["unreached"] == 1200


@pytest.mark.parametrize(
    ("tokens", "code", "wanted"),
    [
        (("withdraw", "nowhere"), 5, "no PoP is named 'nowhere'; there are pop001, pop002"),
        (("prepend", "pop001", "--upstream", "4199999999"), 5, "pop001 has no session with AS 4199999999, only with"),
        (("load", "--demand", "/nonexistent.csv"), 1, "/nonexistent.csv: cannot be read"),
        (("load", "--engine", "abacus"), 6, "no engine 'abacus'"),
        (("add-pop", "/nonexistent.json"), 1, "/nonexistent.json: cannot be read"),
    ],
)
def test_mistakes_are_explained(run: Runner, tokens: tuple[str, ...], code: int, wanted: str) -> None:
    found, text = run(*tokens)
    assert found == code
    assert wanted in text


def test_a_missing_internet_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_app(["load", "--internet", "/nonexistent"], result_action="return_value") == 1
    assert "/nonexistent: cannot be read" in capsys.readouterr().err


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    options = ["--internet", str(tmp_path / "i"), "--fleet", str(tmp_path / "f")]
    again = ["--internet", str(tmp_path / "j"), "--fleet", str(tmp_path / "g")]
    for names in (options, again):
        topology_app(["generate", "--ases", "300", "--pops", "2", "--seed", "9", *names], result_action="return_value")
    assert (tmp_path / "i").read_bytes() == (tmp_path / "j").read_bytes()
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()


def test_the_fit_of_a_small_internet_is_judged(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--internet", str(world / "i.gz"), "--cache", str(world / "cache")]
    code = topology_app(["fit", *options, "--json"], result_action="return_value")
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if all(one["ok"] for one in found) else 1)
    topology_app(["fit", *options], result_action="return_value")
    assert "providers per AS" in capsys.readouterr().out
