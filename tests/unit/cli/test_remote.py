"""`popctl` against an agent elsewhere: certificates, roles, the PoP that is meant; exit codes, also with --json."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from popctl.cli.exits import Exit
from popctl.model.pop import Announce
from tests.certificates import CLIENT, SERVER, Authority, Issued
from tests.unit.agent import api_rig
from tests.unit.agent.remote_rig import Site, site
from tests.unit.cli.command_line import Ended, popctl

WITHDRAW = ("withdraw", "vpn", "--reason", "router swap")


def files(issued: Issued, authority: Path) -> tuple[str, ...]:
    return ("--cert", str(issued.certificate), "--key", str(issued.key), "--ca", str(authority))


async def asked(here: Site, person: Issued, *words: str) -> Ended:
    return await popctl(*words, "--api", here.url, *files(person, here.authority.ca))


async def test_engineer_elsewhere_asks_orders_and_waits_for_the_proof(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        alice = here.person("alice")
        who = await asked(here, alice, "whoami")
        assert (who.code, who.out) == (0, "cn:alice may operate at PoP pop1\n")
        assert (await asked(here, alice, "health")).out == "healthy: the loop turns, ExaBGP is connected\n"
        done = await asked(here, alice, *WITHDRAW, "--pop", "pop1")
        assert (done.code, done.out) == (0, "proven withdrawn at every established session: vpn\n"), done.err
        listed = await asked(here, alice, "maintenance", "list", "--json")
        assert listed.json["orders"][0]["owner"] == "cn:alice"
        assert here.agent.announced() == {"vpn": Announce.WITHDRAWN}


async def test_engineer_elsewhere_sees_who_ordered_what(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        alice, monitoring = here.person("alice"), here.person("monitoring")
        assert (await asked(here, alice, "audit", "list")).out == "no orders yet\n"
        await asked(here, monitoring, "drain", "b1", "--reason", "I would like to")
        await asked(here, alice, "drain", "b1", "--reason", "new kernel", "--force")
        text = (await asked(here, monitoring, "audit", "list")).out
        document = (await asked(here, monitoring, "audit", "list", "--last", "1", "--json")).json
        assert (await asked(here, alice, "audit", "list", "--last", "501")).code == Exit.USAGE
    refused, taken = text.splitlines()
    assert "cn:monitoring: refused drain b1: wrong-role: cn:monitoring has the role read" in refused
    assert refused.endswith("; I would like to")
    assert taken.endswith("cn:alice: place drain b1 (forced); new kernel")
    assert [(one["owner"], one["after"]) for one in document["lines"]] == [("cn:alice", ["drain b1"])]


async def test_engineer_may_say_all_that_in_the_environment(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        alice = here.person("alice")
        environment = {
            "POPCTL_API": here.url,
            "POPCTL_CERT": str(alice.certificate),
            "POPCTL_KEY": str(alice.key),
            "POPCTL_CA": str(here.authority.ca),
            "POPCTL_POP": "pop1",
        }
        result = await popctl("whoami", environment=environment)
        assert (result.code, result.out) == (0, "cn:alice may operate at PoP pop1\n")


async def test_order_for_another_pop_exits_5_and_changes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        result = await asked(here, here.person("alice"), *WITHDRAW, "--pop", "pop2")
        assert (result.code, "this is PoP 'pop1', not 'pop2'" in result.err) == (Exit.NOT_FOUND, True)
        assert here.unchanged()


async def test_role_and_certificate_that_do_not_suffice_exit_77_with_the_reason(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        foreign = Authority(tmp_path / "elsewhere", "another authority").issue("alice", CLIENT)
        for person, reason in (
            (here.person("monitoring"), "cn:monitoring has the role read, this needs operate"),
            (here.person("mallory"), 'the caller is: "cn:mallory"'),
            (foreign, "use a certificate that the agent's authority signed"),
            (here.authority.issue("server-only", SERVER), "use a certificate that the agent's authority signed"),
        ):
            # Without --yes and a terminal nobody is asked; the preview is a question.
            result = await asked(here, person, *WITHDRAW)
            assert (result.code, reason in result.err) == (Exit.NO_PERMISSION, True), result.err
        assert here.unchanged()


async def test_agent_that_cannot_prove_who_it_is_exits_76(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        other = Authority(tmp_path / "elsewhere", "another authority")
        result = await popctl("status", "--api", here.url, *files(here.person("alice"), other.ca))
        assert (result.code, "its certificate is not the agent's" in result.err) == (Exit.PROTOCOL, True)
        wrong_name = await popctl(
            "status",
            "--api",
            here.url.replace("127.0.0.1", "localhost"),
            *files(here.person("alice"), here.authority.ca),
        )
        assert wrong_name.code == Exit.PROTOCOL


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--api", "https://127.0.0.1:1"), "--api needs --cert, --key, --ca"),
        (("--api", "http://127.0.0.1:1"), "--api needs --cert"),
        (("--api", "https://x:1", "--socket", "/x"), "name one"),
        (("--api", "http://127.0.0.1:1", "--cert", "/x", "--key", "/x", "--ca", "/x"), "is not https://HOST:PORT"),
        (("--api", "https://127.0.0.1", "--cert", "/x", "--key", "/x", "--ca", "/x"), "is not https://HOST:PORT"),
        (("--api", "https://127.0.0.1:1", "--cert", "/x", "--key", "/x", "--ca", "/nothing"), "--ca /nothing: No such"),
    ],
)
async def test_way_that_is_described_wrongly_exits_2_in_both_forms(words: tuple[str, ...], problem: str) -> None:
    text = await popctl("status", *words)
    assert (text.code, problem in text.err) == (Exit.USAGE, True), text.err
    document = await popctl("status", *words, "--json")
    assert (document.code, document.json["exit"], problem in document.json["error"]) == (2, 2, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("maintenance", "show", "nothing"), Exit.NOT_FOUND),
        (("maintenance", "extend", "nothing", "--reason", "x"), Exit.NOT_FOUND),
        (("withdraw", "--reason", "x", "--until", "2020-01-01T06:00"), Exit.USAGE),
        (("withdraw", "--reason", "x", "--for", "1h", "--until", "06:00"), Exit.USAGE),
        (("withdraw",), Exit.USAGE),
        (("status", "--frobnicate"), Exit.USAGE),
        (("why", "192.0.2.1"), Exit.NOT_FOUND),
        (("audit", "verify", "/nonexistent/audit.jsonl"), Exit.USAGE),
        (("fleet", "status"), Exit.REFUSED),
        (("drain", "b1", "--reason", "x", "--then", "cut"), Exit.USAGE),
    ],
)
async def test_every_failure_with_json_is_one_object_with_the_exit_code(
    tmp_path: Path, words: tuple[str, ...], code: Exit
) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl(*words, "--json", socket=agent.socket)
    assert (result.code, result.json["exit"], bool(result.json["error"])) == (code, code, True), result.err


async def test_agent_that_is_not_healthy_exits_1(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path), turning=False) as agent:
        agent.loop.turned_at -= 30.0
        result = await popctl("health", "--json", socket=agent.socket)
    assert (result.code, result.json["turning"]) == (Exit.PROBLEMS, False)


async def test_agent_that_is_asked_too_often_exits_8(tmp_path: Path) -> None:
    async with (
        api_rig.running(api_rig.small_pop(tmp_path), api_clock=lambda: 1000.0) as agent,
        api_rig.client_of(agent) as client,
    ):
        for _ in range(101):
            await client.get("/v1/whoami")
        result = await popctl("status", socket=agent.socket)
    assert result.code == Exit.BUSY


async def test_remote_command_leaves_the_keys_out_of_what_it_says(tmp_path: Path) -> None:
    """A key that cannot be used is named, never shown."""
    secret = tmp_path / "alice.key"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    authority = Authority(tmp_path / "pki")
    alice = authority.issue("alice", CLIENT)
    options = ("--cert", str(alice.certificate), "--key", str(secret), "--ca", str(authority.ca))
    result = await popctl("status", "--api", f"https://127.0.0.1:{os.getpid() % 1000 + 1}", *options)
    assert (result.code, str(secret) in result.err) == (Exit.USAGE, True)
    assert "hunter2" not in result.err
