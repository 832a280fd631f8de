"""What the journal writes, replay decides again, bit for bit."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.agent.events import ServicesRestored
from popctl.agent.journal import Journal
from popctl.agent.loop import TurnSink
from popctl.agent.replay import Replayed, ReplayError, replay
from popctl.agent.world import World
from popctl.config.kept_files import older_journals
from popctl.model.announce import Announce
from popctl.model.observation import DrainEnd, IntentKind
from popctl.model.past import Past, ServicePast
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.journal import StartLine, decode
from tests.pops import backend, balanced, ike, pop
from tests.timeline.story import Story
from tests.unit.wire.strange_numbers import documents

POP = pop(backends=(backend(1, ike()), backend(2, ike())))
PYTHON = (sys.executable, "-B", "-c")
"""Leaves no byte code: under a limit on file sizes Python writes half a file, which every later start reads."""


def lived(path: Path, *, max_bytes: int = 2**30, beside: tuple[TurnSink, ...] = ()) -> Story:
    """Let a PoP live through a warm-up, a fall, an order, a drain and a stop, with a journal."""
    story = Story(POP, sinks=list(beside))
    journal = Journal(
        path, world=story.world, config_text="pop: {}", source="test", wall_clock=lambda: 1.7e9, max_bytes=max_bytes
    )
    journal.open(0.0)
    story.sinks.append(journal)
    story.passes(1, begin=0.1, end=40)
    story.passes(2, begin=0.3, end=100)
    story.refuses(1, begin=40, end=50)
    story.orders_withdraw(55.25, drain_s=7.0)
    story.takes_back(65.125, IntentKind.WITHDRAW, "vpn")
    story.orders_drain(80.0, "b2")
    story.stops(95.0)
    story.run_to(100.0)
    journal.close()
    return story


def replayed(*paths: Path) -> list[Replayed]:
    found = []
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            found.extend(replay(lines, lambda _: POP))
    return found


def test_replay_decides_the_same_as_the_agent_did(tmp_path: Path) -> None:
    lived(tmp_path / "journal")
    turns = replayed(tmp_path / "journal")
    assert len(turns) > 10
    assert all(turn.identical for turn in turns)


def test_replay_decides_the_same_about_what_was_remembered_over_a_restart(tmp_path: Path) -> None:
    story = Story(POP)
    journal = Journal(
        tmp_path / "journal", world=story.world, config_text="pop: {}", source="test", wall_clock=lambda: 1.7e9
    )
    journal.open(0.0)
    story.sinks.append(journal)
    past = ServicePast(flaps=(-30.25, -5.5), bad_since=-5.5, lowered=Announce.DEPREFERRED)
    story.happens(0.0, ServicesRestored(Past({"vpn": past})))
    story.passes(1, begin=0.1, end=100)
    story.passes(2, begin=0.3, end=100)
    story.run_to(100.0)
    journal.close()
    turns = replayed(tmp_path / "journal")
    assert Reason.FLAP_HOLD_DOWN in {one.reason for turn in turns if turn.decided for one in turn.decided.services}
    assert all(turn.identical for turn in turns)


def test_file_that_holds_nothing_but_its_start_takes_the_place_of_no_older_one(tmp_path: Path) -> None:
    """An agent that is started again and again, and dies each time, must not push out what led to it."""
    path = tmp_path / "journal"
    lived(path)
    told = path.read_text()
    for _ in range(6):
        started = Journal(path, world=World(POP), config_text="", source="test", wall_clock=lambda: 1.7e9)
        started.open(0.0)
        started.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["journal", "journal.1"]
    assert (tmp_path / "journal.1").read_text() == told
    path.write_text("")
    started.open(0.0)
    started.close()
    assert (tmp_path / "journal.1").read_text() == told, "nor one in which a full disk left nothing at all"


def test_replay_decides_the_same_about_a_balancer_in_every_file(tmp_path: Path) -> None:
    """What the kernel was found with, proofs of the balancer and the end of a drain are in the journal, too."""
    story = Story(balanced(POP), kernel_alive=frozenset({2}))
    path = tmp_path / "journal"
    journal = Journal(
        path, world=story.world, config_text="pop: {}", source="test", wall_clock=lambda: 1.7e9, max_bytes=4000
    )
    journal.open(0.0)
    story.sinks.append(journal)
    story.passes(1, begin=0.1, end=60)
    story.passes(2, begin=0.3, end=30)
    story.refuses(2, begin=30, end=40)
    story.orders_drain(20.0, "b1", for_s=15.0, then=DrainEnd.CUT)
    story.run_to(60.0)
    journal.close()
    assert len(story.tables) > 3
    for file in sorted(tmp_path.iterdir()):
        with file.open(encoding="utf-8") as lines:
            turns = list(replay(lines, lambda _: balanced(POP)))
        assert all(turn.identical for turn in turns)


def test_every_file_of_a_rotated_journal_can_be_replayed_alone(tmp_path: Path) -> None:
    lived(tmp_path / "journal", max_bytes=4000)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    for file in files:
        assert all(turn.identical for turn in replayed(file))


def test_an_altered_decision_is_found(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lived(path)
    path.write_text(path.read_text().replace('"reason":"healthy"', '"reason":"stopping"', 1))
    assert [turn.identical for turn in replayed(path)].count(False) == 1


def test_a_removed_decision_is_found(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lived(path)
    lines = path.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"decision"' in line)
    body = json.loads(lines[last])
    del body["decision"]
    lines[last] = json.dumps(body) + "\n"
    path.write_text("".join(lines))
    assert not all(turn.identical for turn in replayed(path))


def test_a_line_cut_short_by_the_end_of_the_agent_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lived(path)
    path.write_text(path.read_text()[:-20])
    assert all(turn.identical for turn in replayed(path))


def test_turns_without_a_start_are_refused_with_their_line() -> None:
    with pytest.raises(ReplayError, match="line 1: a turn before any start line"):
        list(replay(['{"turn":1.0,"events":[]}\n'], lambda _: POP))


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lived(path)
    path.write_text(path.read_text().replace('"version":1', '"version":99', 1))
    with pytest.raises(ReplayError, match="journal version 99"):
        replayed(path)


def test_a_start_line_holds_the_configuration(tmp_path: Path) -> None:
    lived(tmp_path / "journal")
    first = decode((tmp_path / "journal").read_text().splitlines()[0])
    assert isinstance(first, StartLine)
    assert first.config == "pop: {}"


KEYS = st.sampled_from(["start", "turn", "events", "decision", "o", "a", "i", "s", "x"])
PLAIN = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
OBJECTS = st.dictionaries(
    KEYS, PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(KEYS, PLAIN, max_size=2), max_size=3
)


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=40) | OBJECTS.filter(lambda tree: not ("turn" in tree and "events" in tree)).map(json.dumps))
def test_garbage_raises_only_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        decode(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_lines_raise_only_wire_error_or_read(data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(SAMPLES))
    cut = data.draw(st.integers(0, len(line)))
    insert = data.draw(st.text(max_size=4))
    with contextlib.suppress(WireError):
        decode(line[:cut] + insert + line[cut + len(insert) :])


def test_whatever_stands_where_a_number_should_only_wire_errors_leave() -> None:
    """One line of each kind; a start line is long, and every number in it is tried."""
    lines = {
        tuple(sorted(key for event in json.loads(line).get("events", ()) for key in event)): line for line in SAMPLES
    }
    for line in (SAMPLES[0], *lines.values()):
        for what, text in documents(line):
            try:
                decode(text)
            except WireError:
                pass
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave
                pytest.fail(f"{what}: {error!r}")


def test_a_full_disk_stops_the_journal_and_not_the_agent(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes every write past the limit fail, as a full disk does: now, and a minute later."""
    program = (
        "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from tests.unit.agent.test_journal import lived\n"
        "story = lived(Path(sys.argv[1])); print(story.transitions[-1][1], story.sinks[0].failures)\n"
    )
    limit = 2000
    done = subprocess.run(
        [*PYTHON, program, str(tmp_path / "journal")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.stdout.splitlines()[-1] == "withdrawn 2"


class _FullDisk:
    """A `TurnSink` in whose time no file of this process can grow beyond what the journal has by then."""

    def __init__(self, path: Path, begin: float, end: float) -> None:
        self._path, self._begin, self._end = path, begin, end
        self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        self._full = False

    def turn(self, now: float, events: object, decision: object) -> None:  # noqa: ARG002 - the protocol's parameters
        if not self._full and self._begin <= now < self._end:
            self._full = True
            # A part of a line still fits.
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._path.stat().st_size + 50, self._hard))
        if self._full and now >= self._end:
            self._full = False
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._hard, self._hard))


def _lived_with_a_full_disk(path: Path, begin: float, end: float) -> int:
    """Return how many times the journal stopped."""
    journal = lived(path, beside=(_FullDisk(path, begin, end),)).sinks[-1]
    assert isinstance(journal, Journal)
    return journal.failures


@pytest.mark.parametrize(("end", "failures", "last"), [(60.0, 1, 95.0), (80.0, 2, 18.0)])
def test_a_journal_goes_on_a_minute_after_it_failed_and_moves_nothing_out(
    tmp_path: Path, end: float, failures: int, last: float
) -> None:
    path = tmp_path / "journal"
    *older, _ = older_journals(path)
    for number, file in enumerate((path, *older)):
        file.write_text(f"start of {number}\nits turns\n")
    program = (
        "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from tests.unit.agent.test_journal import _lived_with_a_full_disk\n"
        "print(_lived_with_a_full_disk(Path(sys.argv[1]), *map(float, sys.argv[2:])))\n"
    )
    done = subprocess.run([*PYTHON, program, str(path), "18", str(end)], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) == failures
    turns = replayed(path)
    assert all(turn.identical for turn in turns)
    assert turns[-1].at >= last - 5.0
    kept = [file.read_text() for file in older_journals(path)]
    assert kept == [f"start of {number}\nits turns\n" for number in range(len(kept))]


def _samples() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        lived(Path(folder, "journal"))
        return Path(folder, "journal").read_text().splitlines()[:60]


SAMPLES = _samples()
