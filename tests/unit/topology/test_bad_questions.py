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
