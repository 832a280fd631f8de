"""How commands fail: in one line, or as one JSON object, with an exit code of the table, and never with a traceback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import App

from popctl.cli import parts
from popctl.cli.exits import Exit
from popctl.cli.main import build_app, run

INVENTORY = str(Path(__file__).parents[2] / "data" / "balancer" / "inventory.yaml")
NOT_TEXT = "\udcff"
"""What Python makes of the byte 0xff on a command line."""
TLS = ("--cert", "c.pem", "--key", "k.pem", "--ca", "ca.pem")
OTHER_PROGRAMS = {("agent",), ("replay",), ("meter",), ("lab",)}


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Path]:
    """Listen, and say the same to everybody who says something."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10.0)

        def serve() -> None:
            with listener.accept()[0] as caller:
                caller.recv(4096)
                caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        pytest.param(("announce", "--reason", NOT_TEXT), Exit.USAGE, "not text in UTF-8", id="announce"),
        pytest.param(("undrain", "b1", "--reason", NOT_TEXT), Exit.USAGE, "not text in UTF-8", id="undrain"),
        pytest.param(("state", "reset", "--reason", NOT_TEXT), Exit.USAGE, "not text in UTF-8", id="state reset"),
        pytest.param(("withdraw", NOT_TEXT, "--reason", "r"), Exit.USAGE, "not text in UTF-8", id="withdraw"),
        pytest.param(("why", NOT_TEXT), Exit.USAGE, "not text in UTF-8", id="why"),
        pytest.param(("status", "--pop", NOT_TEXT), Exit.USAGE, "not text in UTF-8", id="pop"),
        pytest.param(
            ("status", "--api", "https://a..b:8443", *TLS), Exit.USAGE, "is not https://HOST", id="empty label"
        ),
        pytest.param(("status", "--api", "https://a b:8443", *TLS), Exit.USAGE, "is not https://HOST", id="a space"),
        pytest.param(("status", "--api", f"https://{'a' * 64}:1", *TLS), Exit.USAGE, "is not https://HOST", id="label"),
        pytest.param(("status", "--api", "https://a\x7fb:8443", *TLS), Exit.USAGE, "is not https://HOST", id="control"),
        pytest.param(("status", "--api", "https://[::1", *TLS), Exit.USAGE, "is not https://HOST", id="a bracket"),
        pytest.param(("audit", "verify", "/nonexistent"), Exit.USAGE, "No such file", id="audit"),
        pytest.param(("doctor", "--vici", "b1"), Exit.USAGE, "write NAME=SOCKET", id="vici without a socket"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    words: tuple[str, ...], code: Exit, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == code
    said = capsys.readouterr().err
    assert (said.startswith("popctl: "), said.count("\n"), told in said) == (True, 1, True), said


@pytest.mark.parametrize("answer", [b"\0\0\0\1\2", b"\0\0\0\0", b"\0\0\0\1\6"], ids=["unknown", "empty", "no event"])
@pytest.mark.parametrize("command", ["backend-config", "doctor"])
def test_socket_that_speaks_no_vici_is_told_in_one_line(
    tmp_path: Path, command: str, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "vici", answer) as path:
        asked = {"backend-config": ("b1", "--check", str(path)), "doctor": ("--vici", f"b1={path}")}
        code = run((command, *asked[command], "--inventory", INVENTORY, "--json"))
    assert code in (Exit.UNREACHABLE, Exit.REFUSED)
    out, err = capsys.readouterr()
    assert ("Traceback" in err, isinstance(json.loads(out), dict)) == (False, True)


def test_silent_backend_leaves_the_rest_of_the_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("doctor", "--vici", f"b1={tmp_path / 'none'}", "--json")) == Exit.UNREACHABLE
    found = json.loads(capsys.readouterr().out)
    assert (list(found), list(found["silent"])) == (["done", "findings", "silent"], ["b1"])


def test_bug_is_one_line_and_its_traceback_is_there_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = parts.Part("broken", "tests.unit.cli.broken_part", "broken_app", "x")
    monkeypatch.setattr(parts, "PARTS", (part,))
    assert run(("broken", "--json")) == Exit.REFUSED
    document = json.loads(capsys.readouterr().out)
    assert (document["exit"], "RuntimeError: two lines" in document["error"]) == (Exit.REFUSED, True)
    assert run(("broken",)) == Exit.REFUSED
    told = "popctl: a bug of popctl: RuntimeError: two lines; remedy: report it, with what POPCTL_DEBUG=1 in the"
    assert capsys.readouterr().err.startswith(told)
    monkeypatch.setenv("POPCTL_DEBUG", "1")
    assert run(("broken",)) == Exit.REFUSED
    assert capsys.readouterr().err.startswith("Traceback")


NO_AGENT = ("--socket", "/nonexistent/api.sock")
REASON = ("--reason", "r", *NO_AGENT)
NO_WORLD = ("--internet", "/nonexistent/internet.gz")
FAILING: dict[tuple[str, ...], tuple[str, ...]] = {
    ("check",): ("/nonexistent/popctl.yaml",),
    ("status",): NO_AGENT,
    ("why",): ("198.51.100.1", *NO_AGENT),
    ("health",): NO_AGENT,
    ("whoami",): NO_AGENT,
    ("withdraw",): REASON,
    ("announce",): REASON,
    ("drain",): ("b1", *REASON),
    ("undrain",): ("b1", *REASON),
    ("state", "reset"): REASON,
    ("maintenance", "list"): NO_AGENT,
    ("maintenance", "show"): ("vpn", *NO_AGENT),
    ("maintenance", "extend"): ("vpn", *REASON),
    ("maintenance", "cancel"): ("vpn", *REASON),
    ("audit", "list"): NO_AGENT,
    ("audit", "verify"): ("/nonexistent/audit.jsonl",),
    ("fleet", "status"): NO_AGENT,
    ("fleet", "watch"): NO_AGENT,
    ("lb", "explain"): ("--inventory", INVENTORY, "--source", "nope", "--destination", "198.51.100.1"),
    ("lb", "compare"): (INVENTORY, "/nonexistent/inventory.yaml"),
    ("backend-config",): ("b9", "--inventory", INVENTORY),
    ("doctor",): ("--vip", "nope"),
    ("plan", "load"): NO_WORLD,
    ("plan", "withdraw"): ("nope", *NO_WORLD),
    ("plan", "prepend"): ("nope", *NO_WORLD),
    ("plan", "add-pop"): ("/nonexistent/pop.json", *NO_WORLD),
    ("plan", "n-1"): NO_WORLD,
    ("plan", "n-2"): NO_WORLD,
    ("plan", "map"): NO_WORLD,
    ("plan", "playbook"): NO_WORLD,
    ("topology", "generate"): ("--pops", "0"),
    ("topology", "fit"): NO_WORLD,
    ("simulate",): ("/nonexistent/scenario.toml",),
}


def commands(app: App) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command below `app`."""
    names = [name for name in app if not name.startswith("-")]
    for name in names:
        for rest in commands(app[name]):
            yield name, *rest
    if not names:
        yield ()


def every_command() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, those of parts included."""
    apps = {one.command: getattr(import_module(one.module), one.attribute) for one in parts.PARTS}
    for words in commands(build_app()):
        for rest in commands(apps[words[0]]) if words[0] in apps else [()]:
            yield *words, *rest


def test_no_command_is_left_out() -> None:
    assert set(every_command()) == FAILING.keys() | OTHER_PROGRAMS


@pytest.mark.parametrize("command", FAILING, ids=" ".join)
def test_failure_is_one_json_object_where_json_was_asked_for(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run((*command, *FAILING[command], "--json"))
    found = json.loads(capsys.readouterr().out)
    if command != ("check",):  # which tells problems, not one error
        assert (found["exit"], bool(found["error"]), found["problem"]) == (code, True, None)
    assert code != Exit.OK


@pytest.mark.parametrize("words", [("lb", "explain", "--nope"), ("plan", "withdraw"), ("frobnicate",)], ids=" ".join)
def test_wrong_usage_is_one_json_object_too(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run((*words, "--json")) == Exit.USAGE
    assert json.loads(capsys.readouterr().out)["exit"] == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("lb", "compare", INVENTORY, INVENTORY), ["agree", "problems"]),
        (("backend-config", "b1", "--inventory", INVENTORY), ["backend", "settings"]),
    ],
    ids=["lb compare", "backend-config"],
)
def test_answer_is_one_json_object(words: tuple[str, ...], keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run((*words, "--json")) == Exit.OK
    assert list(json.loads(capsys.readouterr().out)) == keys
