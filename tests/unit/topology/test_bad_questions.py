"""`popctl plan`, `popctl topology` and `popctl simulate` as a user mistypes them: never "safe", never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popctl.cli.main import run as popctl
from topology.bounds import MOST_SESSIONS
from topology.example import MOST_USERS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    files = ["--internet", str(folder / "i.txt"), "--fleet", str(folder / "f.json")]
    assert popctl(["topology", "generate", "--ases", "300", "--pops", "3", *files]) == 0
    return folder


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.chdir(tmp_path)

    def run(*tokens: str) -> tuple[int, str, str]:
        """Run a question on the small world, in an empty folder."""
        files = {"--internet": world / "i.txt", "--fleet": world / "f.json", "--cache": world / "cache"}
        options = [part for key, path in files.items() if key not in tokens for part in (key, str(path))]
        capsys.readouterr()
        code = popctl(["plan", *tokens, *options])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.mark.parametrize(
    "tokens",
    [
        ("withdraw", "pop001", "--limit", "nan"),
        ("withdraw", "pop001", "--limit", "inf"),
        ("withdraw", "pop001", "--limit", "0"),
        ("withdraw", "pop001", "--limit", "-1"),
        ("withdraw", "pop001", "--sessions", "0"),
        ("withdraw", "pop001", "--sessions", "-100"),
        ("withdraw", "pop001", "--sessions", str(MOST_SESSIONS + 1)),
        ("withdraw", "pop001", "--sessions", "99999999999999999999999"),
        ("n-2", "--top", "1"),
        ("n-2", "--top", "0"),
        ("n-2", "--top", "-1"),
        ("load", "--risks", "-1"),
    ],
    ids=" ".join,
)
def test_a_figure_that_leaves_nothing_to_ask_is_wrong_usage(ask: Ask, tokens: tuple[str, ...]) -> None:
    code, out, err = ask(*tokens)
    assert (code, out) == (2, "")
    assert tokens[-2] in err


def test_the_largest_figure_is_an_ordinary_one(ask: Ask) -> None:
    code, out, _ = ask("withdraw", "pop001", "--sessions", str(MOST_SESSIONS), "--json")
    answer = json.loads(out)
    carried = sum(pop["after"]["sessions"] for pop in answer["pops"].values())
    assert code == 3
    assert carried + answer["unreached"]["after"] == MOST_SESSIONS


@pytest.mark.parametrize("users", [1, MOST_USERS])
def test_the_fleet_that_is_made_for_any_users_can_be_read_and_carries_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], users: int
) -> None:
    files = ["--internet", str(tmp_path / "i.txt"), "--fleet", str(tmp_path / "f.json")]
    make = ["topology", "generate", "--ases", "300", "--pops", "2", *files, "--users"]
    assert popctl([*make, str(users)]) == 0
    capsys.readouterr()
    assert popctl(["plan", "load", *files, "--sessions", str(users), "--json"]) == 0
    pops = json.loads(capsys.readouterr().out)["pops"].values()
    assert sum(pop["sessions"] for pop in pops) == users
    assert all(pop["sessions"] <= pop["capacity"]["sessions"] for pop in pops)
    assert popctl([*make, str(MOST_USERS + 1)]) == 2


def test_a_fleet_of_one_pop_that_announces_has_no_two_that_can_fail(ask: Ask, world: Path, tmp_path: Path) -> None:
    fleet = json.loads((world / "f.json").read_text())
    silent = fleet["pops"][1] | {"sessions": []}
    (tmp_path / "one.json").write_text(json.dumps(fleet | {"pops": [fleet["pops"][0], silent]}))
    code, out, err = ask("n-2", "--fleet", "one.json")
    assert (code, out) == (5, "")
    assert "fewer than two PoPs announce" in err


@pytest.mark.parametrize("option", ["--demand", "--measured"])
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ((), "has no rows below its header"),
        ((4_000_000,), "no session of it is of an AS of the AS graph"),
        ((4_000_000, 4_000_001), "no session of it is of an AS of the AS graph"),
    ],
    ids=["only a header", "one AS elsewhere", "all ASes elsewhere"],
)
def test_users_that_are_all_elsewhere_are_a_problem(
    ask: Ask, tmp_path: Path, option: str, rows: tuple[int, ...], wanted: str
) -> None:
    pop, at = (",pop", ",pop001") if option == "--measured" else ("", "")
    (tmp_path / "u.csv").write_text(f"asn{pop},sessions\n" + "".join(f"{asn}{at},5\n" for asn in rows))
    code, out, err = ask("withdraw", "pop001", option, "u.csv")
    assert (code, out) == (1, "")
    assert err.startswith(f"u.csv: {wanted}")


def test_more_users_than_the_model_counts_are_a_problem(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("asn,sessions\n" + f"1,{MOST_SESSIONS}\n2,1\n")
    code, _, err = ask("load", "--demand", "u.csv")
    assert (code, err) == (1, f"u.csv: {MOST_SESSIONS + 1} sessions in all; the model counts up to {MOST_SESSIONS}\n")


def test_users_outside_the_graph_are_told_in_every_answer(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("asn,sessions\n1,10\n4000000,90\n")
    for question in (("withdraw", "pop001"), ("load",)):
        assert json.loads(ask(*question, "--demand", "u.csv", "--json")[1])["outside"] == 90
        assert "are of ASes outside the graph" in " ".join(ask(*question, "--demand", "u.csv")[1].split())
    several: Any = json.loads(ask("n-1", "--demand", "u.csv", "--json")[1])
    assert [one["outside"] for one in several["answers"]] == [90] * 3
    assert "90 sessions are of ASes outside the graph" in " ".join(ask("n-1", "--demand", "u.csv")[1].split())


DEEP, DIGITS = "[" * 100_000, "9" * 5000
GRAPHML = (
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    '<key id="k" for="node" attr.name="sessions" attr.type="{kind}"/>'
    '<graph edgedefault="{edges}"><node id="a"><data key="k">{value}</data></node></graph></graphml>'
)


def related(world: Path, change: dict[str, object]) -> str:
    """Return the fleet file with another first session."""
    fleet = json.loads((world / "f.json").read_text())
    fleet["pops"][0]["sessions"][0] |= change
    return json.dumps(fleet)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (DEEP, "f: nested too deeply"),
        ('{"asn": ' + DIGITS + "}", "f: a number is too long"),
        ('{"asn": 1,\n"asn": 2}', "f: a key stands twice in one object: asn, asn"),
        ('{"asn": NaN}', "f: not JSON: NaN"),
        ('{\n"asn" 1}', "f:2: not JSON: Expecting ':' delimiter"),
        ({"relation": ["x"]}, "pops[0].sessions[0].relation: ['x'] is none of transit, peer"),
        ({"relation": {}}, "pops[0].sessions[0].relation: {} is none of transit, peer"),
        ({"local_pref": [[]]}, "pops[0].sessions[0].local_pref: [[]] is none of customer"),
        ({"actions": [{"neighbors": ["peers"]}]}, "actions[0].neighbors: ['peers'] is none of providers"),
        ({"med": json.loads("[" * 500 + "]" * 500)}, "pops[0].sessions[0].med: [[[[[[[...]]]]]]] is not"),
    ],
    ids=["deep", "digits", "twice", "NaN", "broken", "list", "table", "lists", "action", "deep value"],
)
def test_strange_json_is_a_problem(
    ask: Ask, world: Path, tmp_path: Path, text: str | dict[str, object], wanted: str
) -> None:
    (tmp_path / "f").write_text(text if isinstance(text, str) else related(world, text))
    code, out, err = ask("withdraw", "pop001", "--fleet", "f")
    assert (code, out) == (1, "")
    assert wanted in err


@pytest.mark.parametrize("text", [DEEP, '{"name": ' + DIGITS + "}", '{"name": "a", "name": "b"}'])
def test_strange_json_is_no_new_pop(ask: Ask, tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    code, out, err = ask("add-pop", "f")
    assert (code, out) == (1, "")
    assert err.startswith("f: ")


def test_an_upstream_of_a_new_pop_that_nobody_knows_has_the_place_of_its_own_file(
    ask: Ask, world: Path, tmp_path: Path
) -> None:
    pop = json.loads((world / "f.json").read_text())["pops"][0]
    new = pop | {"name": "new", "sessions": [{"upstream": pop["sessions"][0]["upstream"]}, {"upstream": 7654321}]}
    text = json.dumps(new, indent=1)
    (tmp_path / "new.json").write_text(text)
    line = next(number for number, one in enumerate(text.splitlines(), start=1) if "7654321" in one)
    code, _, err = ask("add-pop", "new.json")
    assert (code, err) == (1, f"new.json:{line}: session new-as7654321: AS 7654321 is not in the AS graph\n")


def test_the_same_map_is_the_same_file(ask: Ask, tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        assert ask("map", "--out", name, "--withdraw", "pop001")[0] == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        GRAPHML.format(kind="int", edges="undirected", value=1),
        GRAPHML.format(kind="int", edges="directed", value="abc"),
        GRAPHML.format(kind="colour", edges="directed", value=1),
        GRAPHML.format(kind="int", edges="directed", value=DIGITS),
        "<graphml/>",
        "<x>" * 10,
    ],
    ids=["undirected", "abc", "kind", "digits", "empty", "not closed"],
)
def test_strange_graphml_is_a_problem(ask: Ask, tmp_path: Path, text: str) -> None:
    (tmp_path / "f.graphml").write_text(text)
    code, out, err = ask("withdraw", "pop001", "--fleet", "f.graphml")
    assert (code, out) == (1, "")
    assert err.startswith("f.graphml: ")


@pytest.mark.parametrize("option", ["--demand", "--measured"])
def test_a_figure_of_thousands_of_digits_is_a_problem(ask: Ask, tmp_path: Path, option: str) -> None:
    head, row = ("asn", "5") if option == "--demand" else ("asn,pop", "5,pop001")
    (tmp_path / "u.csv").write_text(f"{head},sessions\n{row},{DIGITS}\n")
    code, out, err = ask("load", option, "u.csv")
    assert (code, out) == (1, "")
    assert "u.csv:2: sessions: '99999" in err
    assert len(err) < 200


@pytest.mark.parametrize("out", [".", "/", "nowhere/x.svg", "x.json/y.svg"])
@pytest.mark.parametrize("command", ["map", "playbook"])
def test_a_place_that_cannot_be_written_is_a_problem(ask: Ask, tmp_path: Path, command: str, out: str) -> None:
    (tmp_path / "x.json").write_text("")
    code, told, err = ask(command, "--out", out)
    assert (code, told) == (1, "")
    assert err.startswith(f"{out}: cannot be written: ")


@pytest.mark.parametrize("out", ["x.foo", "x"])
def test_a_picture_of_no_known_kind_is_a_problem(ask: Ask, tmp_path: Path, out: str) -> None:
    code, told, err = ask("map", "--out", out)
    assert (code, told, list(tmp_path.iterdir())) == (1, "", [])
    assert err.startswith(f"{out}: no picture has the suffix ")
    assert ".svg" in err


@pytest.mark.parametrize(
    ("options", "code", "wanted"),
    [
        (("--seed", "-1"), 2, '"-1"'),
        (("--internet", "nowhere/i.txt"), 1, "nowhere/i.txt: cannot be written"),
        (("--fleet", "nowhere/f.json"), 1, "nowhere/f.json: cannot be written"),
    ],
    ids=["seed", "internet", "fleet"],
)
def test_an_internet_is_made_whole_or_not_at_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
    wanted: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert popctl(["topology", "generate", "--ases", "300", "--pops", "2", *options]) == code
    assert wanted in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SCENARIO = 'name = "s"\nduration = "10m"\ntick = "60s"\n[internet]\nases = 300\n[fleet]\npops = 3\nusers = 900\n'


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("seed = " + DIGITS + "\n" + SCENARIO, (), "s.toml: is no TOML that can be read: Exceeds the limit"),
        ("a = " + "[" * 5000 + "]" * 5000 + "\n" + SCENARIO, (), "s.toml: is nested too deeply"),
        (
            SCENARIO + '[[event]]\nkind = "pop-failure"\nat = "5m"\npops = [["pop001"]]\n',
            (),
            "no PoP is named ['pop001']",
        ),
        (SCENARIO + "[network]\nannounce = [0.0, inf]\n", (), "s.toml:10: network.announce: is not two durations"),
        (
            SCENARIO + f'[network]\nannounce = ["1s", "{DIGITS}s"]\n',
            (),
            "s.toml:10: network.announce: is not two durations",
        ),
        (SCENARIO, ("--plot", "x.foo"), "x.foo: no picture has the suffix '.foo'"),
        (SCENARIO, ("--plot", "nowhere/x.svg"), "nowhere/x.svg: cannot be written: "),
    ],
    ids=["digits", "deep", "lists", "inf", "long", "suffix", "folder"],
)
def test_strange_scenarios_are_problems_before_anything_is_played(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: tuple[str, ...],
    wanted: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(text)
    assert popctl(["simulate", "s.toml", *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert wanted in err
    assert "Traceback" not in err
