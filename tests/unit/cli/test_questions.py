"""status, why, check and how the command line itself fails: as processes."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import sys
import time
from pathlib import Path

import pytest

from popctl.cli.check import owner_of
from popctl.cli.client import AgentClient, PermissionDeniedError
from popctl.cli.reach import UnixReach
from popctl.model.desired import Actual
from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.cli.command_line import popctl
from tests.unit.config.samples import minimal

NOBODY = 65534
GOOD = Path("tests/data/config/good/minimal.yaml")
GOOD_TEXT = GOOD.read_text()


async def test_status_shows_service_route_session_backend_and_order(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        await popctl("drain", "b2", "--reason", "new kernel", socket=agent.socket)
        result = await popctl("status", socket=agent.socket)
    assert (result.code, result.err) == (0, "")
    for expected in ("PoP pop1 (1, Testville)", "normal", "healthy", "198.51.100.0/24", "proven", "established"):
        assert expected in result.out
    assert "draining" in result.out
    assert "new kernel" in result.out


async def test_status_json_is_the_answer_of_the_api(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl("status", "--json", socket=agent.socket)
    assert result.code == 0
    assert (result.json["pop"]["name"], result.json["services"][0]["announce"]) == ("pop1", "normal")


@pytest.mark.parametrize("words", [("status",), ("health",), ("why", "198.51.100.1")], ids=lambda words: words[0])
async def test_whoever_asks_hears_that_exabgp_is_not_connected_and_why(tmp_path: Path, words: tuple[str, ...]) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.report(Actual(problem="the relay refuses: \x1b[2Jfenced"))
        await eventually_async(lambda: not agent.world.view().actual.connected)
        result = await popctl(*words, socket=agent.socket)
    assert "ExaBGP is not connected (the relay refuses: \\x1b[2Jfenced)" in " ".join(result.out.split())


async def test_why_shows_the_chain_and_nothing_that_a_terminal_would_obey(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.observe(1, Outcome.FAIL, Reason.WRONG_ANSWER, detail="\x1b[2Jnotify [bold]7[/bold]", times=3)
        await eventually_async(lambda: agent.loop.decision and agent.loop.decision.desired.services[0].healthy == 1)
        result = await popctl("why", "198.51.100.1", socket=agent.socket)
    assert result.code == 0
    for expected in ("198.51.100.0/24 belongs to service vpn", "decision normal (healthy)", "backend b1 down"):
        assert expected in result.out
    assert "last fail: wrong-answer (\\x1b[2Jnotify [bold]7[/bold])" in result.out
    assert "\x1b" not in result.out


async def test_why_json_and_unknown_prefix(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        found = await popctl("why", "2001:db8:100::/48", "--json", socket=agent.socket)
        unknown = await popctl("why", "203.0.113.0/24", socket=agent.socket)
        wrong = await popctl("why", "vpn", socket=agent.socket)
    assert (found.code, found.json["service"]["name"]) == (0, "vpn")
    assert (unknown.code, "there is: 198.51.100.0/24" in unknown.err) == (5, True)
    assert wrong.code == 2


@pytest.mark.parametrize("words", [("status",), ("why", "10.0.0.0/8"), ("withdraw", "--reason", "x")])
async def test_no_agent_exits_69(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = await popctl(*words, "--socket", str(tmp_path / "api.sock"))
    assert (result.code, result.out) == (69, "")
    assert "no agent answers at" in result.err


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe[[",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{",
    ],
)
async def test_answer_of_something_else_exits_76(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "api.sock"):
        result = await popctl("status", socket=tmp_path / "api.sock")
    assert (result.code, result.out) == (76, "")
    assert "does not speak this API" in result.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_socket_of_another_user_is_no_permission(tmp_path: Path) -> None:
    """In this process: another user may not even be able to read the interpreter."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionDeniedError) as caught:
                AgentClient(UnixReach(tmp_path / "api.sock")).status()
        finally:
            os.seteuid(0)
    assert caught.value.exit_code == 77


async def test_reader_that_has_seen_enough_is_no_crash(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        command = (sys.executable, "-m", "popctl.cli.main", "status", "--json", "--socket", str(agent.socket))
        read, write = os.pipe()
        os.close(read)
        process = await asyncio.create_subprocess_exec(*command, stdout=write, stderr=asyncio.subprocess.PIPE)
        os.close(write)
        _, err = await process.communicate()
    assert (process.returncode, err) == (141, b"")


async def test_help_lists_every_exit_code() -> None:
    result = await popctl("--help")
    assert result.code == 0
    for code in ("4: refused", "69: no agent", "75: ordered, not proven"):
        assert code in result.out


async def test_check_of_a_good_configuration_exits_0_after_exabgp_has_judged_it() -> None:
    result = await popctl("check", str(GOOD))
    assert (result.code, result.out, result.err) == (0, f"{GOOD}: no problem found\n", "")


async def test_check_tells_every_problem_in_both_forms_and_exits_1(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD_TEXT.replace("id: 1\n", "id: x\n", 1).replace("65000", "-1"))
    text, document = await popctl("check", str(bad)), await popctl("check", str(bad), "--json")
    assert (text.code, document.code, document.json["ok"]) == (1, 1, False)
    paths = [problem["path"] for problem in document.json["problems"]]
    assert paths == ["pop.id", "neighbors[0].asn"]
    assert all(path in text.err for path in paths)


BREAKS = {
    "spi": "",
    "source-ip": "clients behind one CGNAT address all meet on one backend, and one that changes its address moves",
    "source-ip-port": "unlabelled IKE breaks on its move from UDP 500 to 4500 and on every NAT rebind",
    "5-tuple": "unlabelled ESP goes to another backend than its IKE, and every NAT rebind breaks",
}


@pytest.mark.parametrize(("key", "breaks"), BREAKS.items())
async def test_check_and_doctor_tell_what_a_hash_key_breaks(tmp_path: Path, key: str, breaks: str) -> None:
    balancer = (
        "    prefixes: [198.51.100.0/24]\n",
        f"    prefixes: [198.51.100.0/24]\n    balancer: {{vips: [198.51.100.1], key: {key}}}\n",
    )
    file = tmp_path / "popctl.yaml"
    file.write_text(minimal(balancer, tail="spi_plan: {site: example.net}\n"))
    text, document = await popctl("check", str(file)), await popctl("check", str(file), "--json")
    assert (text.code, text.out) == (document.code, f"{file}: no problem found\n") == (0, f"{file}: no problem found\n")
    told = (
        f"{file}: warning: services.vpn.balancer.key: found {key}: {breaks}; remedy: label the backends and use spi\n"
    )
    assert text.err == (told if breaks else "")
    assert [one["problem"] for one in document.json["warnings"]] == ([breaks] if breaks else [])
    found = (await popctl("doctor", "--inventory", str(file), "--json")).json["findings"]
    keys = [(one["severity"], one["text"], one["why"]) for one in found if one["name"] == "hash-key"]
    assert keys == ([("warning", f"service vpn is spread by {key}", breaks)] if breaks else [])


async def test_check_of_a_missing_file_exits_1(tmp_path: Path) -> None:
    result = await popctl("check", str(tmp_path / "none.yaml"))
    assert (result.code, "No such file" in result.err) == (1, True)


async def test_check_write_leaves_the_files_that_exabgp_runs_on(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    result = await popctl("check", str(GOOD), "--write", str(tmp_path / "out"), "--user", user)
    assert result.code == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in listing(tmp_path / "out")}
    assert modes == {"exabgp.conf": 0o600, "exabgp.ini": 0o644, "exabgp.env": 0o644, "relay.json": 0o644}


async def test_check_write_for_a_user_that_does_not_exist_writes_nothing(tmp_path: Path) -> None:
    result = await popctl("check", str(GOOD), "--write", str(tmp_path / "out"), "--user", "no-such-user")
    assert (result.code, "no such user" in result.err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_check_write_as_root_gives_the_secrets_to_the_user_that_exabgp_runs_as(tmp_path: Path) -> None:
    """Mode 0600 and root's: ExaBGP would not even start."""
    nobody = pwd.getpwuid(NOBODY)
    result = await popctl("check", str(GOOD), "--write", str(tmp_path / "out"), "--user", nobody.pw_name)
    assert (result.code, result.err) == (0, "")
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in listing(tmp_path / "out")}
    assert owners.pop("exabgp.conf") == (nobody.pw_uid, nobody.pw_gid)
    assert set(owners.values()) == {(0, 0)}, "ExaBGP reads the others and need not change them"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_root_writes_the_secrets_of_another_user() -> None:
    """In this process: another user may not even be able to read the interpreter."""
    os.seteuid(NOBODY)
    try:
        assert owner_of(pwd.getpwuid(NOBODY).pw_name) == (None, ())
        owner, problems = owner_of("root")
    finally:
        os.seteuid(0)
    assert owner is None
    assert [(one.path, one.found, one.problem) for one in problems] == [
        ("--user", "root", "only root can write a secret file for another user")
    ]


async def test_check_takes_or_names_a_key_of_any_character_and_never_shows_it(tmp_path: Path) -> None:
    """One neighbour for each printable character of ASCII, so that ExaBGP judges all that pass."""

    def neighbor(number: int) -> str:
        key = tmp_path / f"{number}.md5"
        key.touch(mode=0o600)
        key.write_text(f"hush{chr(number)}tail")
        text = GOOD_TEXT.partition("neighbors:\n")[2].partition("services:")[0]
        return text.replace("address: 192.0.2.1\n", f"address: 192.0.2.{number}\n", 1) + f"    md5_file: {key}\n"

    def config(numbers: list[int]) -> Path:
        before, _, rest = GOOD_TEXT.partition("neighbors:\n")
        path = tmp_path / "pop.yaml"
        path.write_text(
            f"{before}neighbors:\n{''.join(map(neighbor, numbers))}services:{rest.partition('services:')[2]}"
        )
        return path

    numbers = list(range(ord(" "), 127))
    everything = await popctl("check", str(config(numbers)), "--json")
    refused = [numbers.index(ord(one)) for one in "\"'\\"]
    assert [one["path"] for one in everything.json["problems"]] == [f"neighbors[{one}].md5_file" for one in refused]
    assert "quotation mark" in everything.json["problems"][0]["problem"]
    rest = await popctl("check", str(config([one for one in numbers if chr(one) not in "\"'\\"])))
    assert (rest.code, rest.err) == (0, "")
    assert "hush" not in everything.out + rest.out
    assert "tail" not in everything.out + rest.out


def listing(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def test_check_judges_the_playbook_that_the_configuration_names(tmp_path: Path) -> None:
    """As the agent does: another fleet's is a problem, one that fits is none, and one that is missing is said so."""
    book = {"format": "popctl-playbook", "version": 1, "fleet": "vpn-asia", "created_unix_s": time.time()}
    ladder = [
        {"name": "normal"},
        {"name": "as65001 depreferred", "upstreams": {"65001": "depreferred"}},
        {"name": "depreferred", "others": "depreferred"},
        {"name": "as65001 withdrawn", "others": "depreferred", "upstreams": {"65001": "withdrawn"}},
        {"name": "withdrawn", "others": "withdrawn"},
    ]
    path, config = tmp_path / "playbook.json", tmp_path / "pop.yaml"
    config.write_text((GOOD.parent / "load.yaml").read_text().replace("/var/lib/popctl/playbook.json", str(path)))
    missing = await popctl("check", str(config))
    path.write_text(json.dumps({**book, "pops": {"fra1": {"levels": ladder}}}))
    foreign = await popctl("check", str(config))
    path.write_text(json.dumps({**book, "fleet": "vpn-eu", "pops": {"fra1": {"levels": ladder}}}))
    fitting = await popctl("check", str(config))
    assert (missing.code, foreign.code, fitting.code) == (1, 1, 0)
    assert f"load.playbook: found {path}: cannot be read: No such file or directory" in missing.err
    assert "load.playbook: found vpn-asia: was made for another fleet than vpn-eu; remedy: make a play" in foreign.err
