"""The audit file under crashes, full disks, many writers and callers that are refused without end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from popctl.agent.audit_log import AuditLog, Refusals
from popctl.audit.file import append
from popctl.wire.audit import verify


def log(path: Path, now_s: list[float] | None = None) -> AuditLog:
    moment = now_s or [1000.0]
    return AuditLog(path, wall=lambda: moment[0], monotonic=lambda: moment[0])


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def problems(path: Path) -> tuple[str, ...]:
    return verify(path.read_bytes().splitlines(keepends=True)).problems


async def test_writers_at_once_leave_one_chain(tmp_path: Path) -> None:
    written = log(tmp_path / "audit.jsonl")
    one = (written.order("amy", "x", {"number": number}) for number in range(20))
    other = (written.refusal("bob", "bob", None, {"number": number}) for number in range(20))
    assert all(await asyncio.gather(*one))
    await asyncio.gather(*other)
    assert len(entries(written.path)) == 40
    assert problems(written.path) == ()


async def test_line_that_a_crash_left_unfinished_stays_and_swallows_nothing(tmp_path: Path) -> None:
    written = log(tmp_path / "audit.jsonl")
    await written.order("amy", "one", {})
    whole = written.path.read_bytes()
    written.path.write_bytes(whole + b'{"unix_s":1000.0,"owner":"a')
    await written.order("amy", "two", {})
    await written.order("amy", "three", {})
    lines = written.path.read_bytes().splitlines()
    assert [json.loads(line)["reason"] for line in (lines[0], lines[2], lines[3])] == ["one", "two", "three"]
    assert problems(written.path) == ("line 2: not a line of the audit file",)


async def test_caller_that_is_refused_without_end_fills_no_disk_and_is_counted(tmp_path: Path) -> None:
    now_s = [1000.0]
    written = log(tmp_path / "audit.jsonl", now_s)
    for _ in range(500):
        await written.refusal("mallory", "mallory", None, {"code": "bad-request"})
    assert len(entries(written.path)) == 60
    await written.refusal("amy", "amy", None, {"code": "bad-request"})
    assert entries(written.path)[-1]["owner"] == "amy", "everybody has a share of their own"
    now_s[0] += 3600.0
    await written.refusal("mallory", "mallory", None, {"code": "bad-request"})
    assert entries(written.path)[-1]["left_out"] == 440
    assert problems(written.path) == ()


async def test_caller_that_is_refused_every_second_has_a_line_an_hour_that_counts_the_others(tmp_path: Path) -> None:
    now_s = [1000.0]
    written = log(tmp_path / "audit.jsonl", now_s)
    refused = 86_400
    for _ in range(refused):
        await written.refusal("mallory", "mallory", None, {"code": "no-role"})
        now_s[0] += 1.0
    now_s[0] += 3600.0
    await written.refusal("mallory", "mallory", None, {"code": "no-role"})
    lines = entries(written.path)
    assert 60 < len(lines) < 100
    assert len(lines) + sum(line.get("left_out", 0) for line in lines) == refused + 1
    assert problems(written.path) == ()


def test_caller_whose_refusals_are_counted_goes_on_being_counted_when_many_others_are() -> None:
    now_s = 1000.0
    refusals = Refusals(lambda: now_s)
    names = [f"cn:{number}" for number in range(1024)]
    for name in names:
        assert [refusals.take(name) for _ in range(61)] == [0] * 60 + [None]
    assert refusals.take(names[-1]) is None
    now_s += 3600.0
    assert refusals.take(names[-1]) == 2


async def test_what_the_doctor_mended_is_in_the_same_chain_and_told_with_the_orders(tmp_path: Path) -> None:
    written = log(tmp_path / "audit.jsonl")
    await written.order("amy", "new kernel", {"action": "place", "kind": "drain", "targets": ("b1",), "after": []})
    mended = {"unix_s": 1000.0, "owner": "root", "reason": "popctl doctor --fix", "action": "doctor"}
    append(written.path, mended | {"commands": ["sysctl -w a=1"]}, create=False)
    assert problems(written.path) == ()
    told = await written.last(5)
    assert [(one.owner, one.what) for one in told.lines] == [("amy", "drain b1"), ("root", "sysctl -w a=1")]


async def test_file_that_cannot_be_written_is_said_and_counted(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    written = log(tmp_path / "audit.jsonl")
    assert not await written.order("amy", "x", {})
    await written.refusal("amy", "amy", None, {})
    assert written.failures == 2


async def test_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "precious")
    assert not await log(tmp_path / "audit.jsonl").order("amy", "x", {})
    assert (tmp_path / "precious").read_text() == "precious"


async def test_rotated_file_is_begun_anew(tmp_path: Path) -> None:
    written = log(tmp_path / "audit.jsonl")
    await written.order("amy", "one", {})
    written.path.rename(tmp_path / "audit.1")
    await written.order("amy", "two", {})
    assert [problems(path) for path in (tmp_path / "audit.1", written.path)] == [(), ()]
