"""The state file: what is believed, what is not, and that a failed write changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.agent.durable import StateWriteError
from popctl.agent.intents import IntentStore, StateCorruptError
from popctl.model.observation import DrainEnd, Intent, IntentKind
from popctl.wire.intents_file import decode_state, encode_state

WITHDRAW = Intent(
    kind=IntentKind.WITHDRAW, target="vpn", reason="swap", owner="ada", created_unix_s=1000.0, drain_s=60.0
)
DRAIN = Intent(kind=IntentKind.DRAIN, target="b1", reason="kernel", owner="bob", created_unix_s=900.5)


def test_missing_file_holds_no_orders(tmp_path: Path) -> None:
    store = IntentStore(tmp_path / "state.json")
    assert store.load(unix_s=0.0, now=0.0) == ()
    assert list(tmp_path.iterdir()) == []


def test_saved_orders_come_back_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    IntentStore(path).save((WITHDRAW, DRAIN))
    assert IntentStore(path).load(unix_s=5000.0, now=7.0) == (DRAIN, WITHDRAW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("unix_s", "drain_until"),
    [(1000.0, 67.0), (1030.0, 37.0), (1059.5, 7.5), (1060.0, 0.0), (9999.0, 0.0), (10.0, 67.0)],
    ids=["at once", "half-way", "nearly over", "just over", "long over", "wall clock set back"],
)
def test_drain_time_becomes_a_deadline_of_this_run(tmp_path: Path, unix_s: float, drain_until: float) -> None:
    path = tmp_path / "state.json"
    IntentStore(path).save((WITHDRAW,))
    (loaded,) = IntentStore(path).load(unix_s=unix_s, now=7.0)
    assert loaded == replace(WITHDRAW, drain_until=drain_until)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b"\x00" * 4096, "truncated"),
        (b"{}", "format"),
        (b"[]", "truncated"),
        (encode_state((DRAIN,))[:-1], "not the bytes"),
        (encode_state((DRAIN,)).replace(b'"format": 4', b'"format": 5'), "format 5, this popctl reads 4"),
        (encode_state((DRAIN,), 1).replace(b'"format": 1', b'"format": true'), "format True"),
        (encode_state((DRAIN,), 1).replace(b'"format": 1', b'"format": 2'), "keys"),
        (encode_state((DRAIN,)).replace(b"kernel", b"kernal"), "checksum"),
        (encode_state((DRAIN,)).replace(b": 4,", b": 4, "), "not the bytes"),
        (b"[" * 100_000, "truncated"),
    ],
)
def test_file_that_popctl_did_not_write_is_corrupt_and_left_alone(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    store = IntentStore(path)
    with pytest.raises(StateCorruptError, match=problem) as caught:
        store.load(unix_s=0.0, now=0.0)
    assert caught.value.path == path
    with pytest.raises(StateCorruptError):
        store.save((WITHDRAW,))
    assert path.read_bytes() == content


def test_file_of_the_format_before_is_read_and_written_anew(tmp_path: Path) -> None:
    """An upgrade forgets no order."""
    path = tmp_path / "state.json"
    path.write_bytes(encode_state((DRAIN,), 1))
    store = IntentStore(path)
    assert store.load(unix_s=0.0, now=0.0) == (DRAIN,)
    store.save(store.intents)
    assert path.read_bytes() == encode_state((DRAIN,))


def test_a_drain_with_a_deadline_and_an_end_comes_back_as_it_was(tmp_path: Path) -> None:
    order = replace(DRAIN, drain_s=600.0, then=DrainEnd.CUT, created_unix_s=1000.0)
    IntentStore(tmp_path / "state.json").save((order,))
    (loaded,) = IntentStore(tmp_path / "state.json").load(unix_s=1060.0, now=7.0)
    assert loaded == replace(order, drain_until=547.0)
    (late,) = IntentStore(tmp_path / "state.json").load(unix_s=9999.0, now=7.0)
    assert late.cuts(7.0)


@pytest.mark.parametrize(("unix_s", "expires"), [(1000.0, 7207.0), (1300.0, 6907.0), (8200.0, 7.0), (9999.0, 7.0)])
def test_the_end_of_an_order_becomes_a_moment_of_this_run(tmp_path: Path, unix_s: float, expires: float) -> None:
    IntentStore(tmp_path / "state.json").save((replace(WITHDRAW, expires_unix_s=8200.0),))
    (loaded,) = IntentStore(tmp_path / "state.json").load(unix_s=unix_s, now=7.0)
    assert loaded.expires == expires


def test_file_of_the_format_before_a_fleet_is_read_and_written_anew_with_force(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(encode_state((DRAIN,), 2))
    store = IntentStore(path)
    assert store.load(unix_s=0.0, now=0.0) == (DRAIN,)
    forced = Intent(kind=IntentKind.WITHDRAW, target="vpn", reason="fire", owner="amy", created_unix_s=1.0, forced=True)
    store.save((DRAIN, forced))
    assert IntentStore(path).load(unix_s=0.0, now=0.0) == (DRAIN, forced)


def test_file_of_the_format_before_new_sas_could_be_refused_is_read_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(encode_state((DRAIN,), 3))
    store = IntentStore(path)
    assert store.load(unix_s=0.0, now=0.0) == (DRAIN,)
    closed = Intent(
        kind=IntentKind.WITHDRAW, target="vpn", reason="work", owner="amy", created_unix_s=1.0, refuse_new=True
    )
    store.save((DRAIN, closed))
    assert IntentStore(path).load(unix_s=0.0, now=0.0) == (DRAIN, closed)


def test_file_with_a_right_checksum_but_no_orders_in_it_is_corrupt(tmp_path: Path) -> None:
    """A later version may write orders that this one does not know; guessing would forget them."""
    orders = [json.loads(encode_state((DRAIN,)))["intents"][0] | {"kind": "hold"}]
    checksum = hashlib.sha256(json.dumps(orders, indent=1, sort_keys=True).encode() + b"\n").hexdigest()
    document = {"format": 4, "checksum": f"sha256:{checksum}", "intents": orders}
    path = tmp_path / "state.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    with pytest.raises(StateCorruptError, match="'hold' is not a valid IntentKind"):
        IntentStore(path).load(unix_s=0.0, now=0.0)


def test_unreadable_file_is_corrupt_and_not_taken_for_a_first_start(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(StateCorruptError, match="directory"):
        IntentStore(tmp_path / "state.json").load(unix_s=0.0, now=0.0)


def test_path_below_a_file_is_an_error_in_both_directions(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = IntentStore(tmp_path / "file" / "state.json")
    with pytest.raises(StateCorruptError, match="Not a directory"):
        store.load(unix_s=0.0, now=0.0)
    with pytest.raises(StateWriteError, match="Not a directory"):
        IntentStore(tmp_path / "file" / "state.json").save((DRAIN,))


def test_reset_keeps_a_copy_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"half a f")
    store = IntentStore(path)
    with pytest.raises(StateCorruptError):
        store.load(unix_s=0.0, now=0.0)
    kept = store.reset(unix_s=1234.5)
    assert kept == tmp_path / "state.json.corrupt-1234"
    assert kept.read_bytes() == b"half a f"
    assert decode_state(path.read_bytes()) == ()
    store.save((DRAIN,))
    assert decode_state(path.read_bytes()) == (DRAIN,)


def test_temporary_file_of_a_crashed_write_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").write_bytes(b"half")
    IntentStore(tmp_path / "state.json").save((DRAIN,))
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_planted_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "state.json.new").symlink_to(tmp_path / "victim")
    IntentStore(tmp_path / "state.json").save((DRAIN,))
    assert (tmp_path / "victim").read_bytes() == b"precious"


LIMITED = """
import resource, sys
from pathlib import Path
from popctl.agent.durable import StateWriteError
from popctl.agent.intents import IntentStore
from popctl.model.observation import Intent, IntentKind
store = IntentStore(Path(sys.argv[1]))
before = store.load(unix_s=0.0, now=0.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
order = Intent(kind=IntentKind.DRAIN, target="b2", reason="r", owner="o", created_unix_s=1.0)
try:
    store.save((*before, order))
except StateWriteError as error:
    assert store.intents == before
    print(error.problem)
"""


def test_write_that_is_cut_short_leaves_the_old_file(tmp_path: Path) -> None:
    """In a process of its own: the limit on file sizes holds for all of it."""
    path = tmp_path / "state.json"
    IntentStore(path).save((DRAIN,))
    done = subprocess.run(
        [sys.executable, "-B", "-c", LIMITED, str(path)], capture_output=True, text=True, check=True, timeout=20
    )
    assert "File too large" in done.stdout
    assert decode_state(path.read_bytes()) == (DRAIN,)
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_reader_sees_the_old_or_the_new_file_at_any_moment(tmp_path: Path) -> None:
    """Whatever the moment of a crash: the open descriptor of the old file stays whole, the new one is complete."""
    path = tmp_path / "state.json"
    store = IntentStore(path)
    store.save((DRAIN,))
    descriptor = os.open(path, os.O_RDONLY)
    store.save((WITHDRAW,))
    with open(descriptor, "rb") as old:  # noqa: PTH123 - a descriptor, not a path
        assert decode_state(old.read()) == (DRAIN,)
    assert [intent.target for intent in decode_state(path.read_bytes())] == ["vpn"]
