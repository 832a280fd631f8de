"""The fold of outcomes into a verdict, as truth tables."""

from __future__ import annotations

import pytest

from popctl.core import health
from popctl.model.observation import Observation, Outcome
from popctl.model.probe import ProbeKey, Thresholds
from popctl.model.reason import Reason
from popctl.model.view import Health, Verdict
from tests.pops import backend, ike, l2tp

KEY = ProbeKey(1, "ike")
LETTERS = {
    "P": (Outcome.PASS, Reason.ANSWERED),
    "F": (Outcome.FAIL, Reason.TIMED_OUT),
    "R": (Outcome.FAIL, Reason.REFUSED),
    "?": (Outcome.UNKNOWN, Reason.OVERLOADED),
}
SHOWN = {Verdict.UP: "U", Verdict.DOWN: "D", Verdict.UNKNOWN: "-"}


def run(outcomes: str, *, rise: int = 3, fall: int = 3, fall_refused: int = 1) -> str:
    """Fold a row of outcomes, one a second, into the row of verdicts after each."""
    need = Thresholds(rise=rise, fall=fall, fall_refused=fall_refused, stale_after_s=1000.0)
    record, shown = Health(), ""
    for at, letter in enumerate(outcomes):
        outcome, reason = LETTERS[letter]
        record = health.step(record, Observation(key=KEY, outcome=outcome, reason=reason, at=float(at)), need)
        shown += SHOWN[record.verdict]
    return shown


@pytest.mark.parametrize(
    ("outcomes", "verdicts"),
    [
        ("PPPFPFFFP", "--UUUUUDD"),
        ("FFFPPP", "--DDDU"),
        ("PPFPPFPPP", "--------U"),
        ("PPPR", "--UD"),
        ("PPP?F?F?F", "--UUUUUUD"),
        ("???", "---"),
        ("P?P?P", "----U"),
        ("R", "D"),
        ("PPPFFRPPP", "--UUUDDDU"),
    ],
)
def test_a_verdict_flips_only_after_a_full_streak(outcomes: str, verdicts: str) -> None:
    assert run(outcomes) == verdicts


def test_refusals_have_a_hold_of_their_own() -> None:
    assert run("PPPRRR", fall_refused=2, fall=5) == "--UUDD"
    assert run("PPPRFRFR", fall_refused=2, fall=9) == "--UUUUUU", "the refusals must follow one another"


def test_a_verdict_nobody_confirms_goes_stale() -> None:
    need = Thresholds(rise=1, fall=1, fall_refused=1, stale_after_s=5.0)
    record = health.step(Health(), Observation(key=KEY, outcome=Outcome.PASS, reason=Reason.ANSWERED, at=10.0), need)
    assert health.probe_verdict(record, need, 14.999) == (Verdict.UP, Reason.RISEN)
    assert health.probe_verdict(record, need, 15.0) == (Verdict.UNKNOWN, Reason.STALE)


def test_unknown_outcomes_do_not_keep_a_verdict_fresh() -> None:
    need = Thresholds(rise=1, fall=1, fall_refused=1, stale_after_s=5.0)
    record = Health()
    for at, letter in ((10.0, "P"), (14.0, "?")):
        outcome, reason = LETTERS[letter]
        record = health.step(record, Observation(key=KEY, outcome=outcome, reason=reason, at=at), need)
    assert health.probe_verdict(record, need, 15.0)[0] is Verdict.UNKNOWN


def evidence(outcomes: str) -> Reason:
    need = Thresholds(rise=3, fall=1, fall_refused=1, stale_after_s=1000.0)
    record = Health()
    for at, letter in enumerate(outcomes):
        outcome, reason = LETTERS[letter]
        record = health.step(record, Observation(key=KEY, outcome=outcome, reason=reason, at=float(at)), need)
    return health.probe_verdict(record, need, float(len(outcomes)))[1]


@pytest.mark.parametrize(
    ("outcomes", "rests_on"),
    [
        ("F", Reason.TIMED_OUT),
        ("FR", Reason.REFUSED),
        ("R?", Reason.REFUSED),
        ("R??F", Reason.TIMED_OUT),
        ("RP", Reason.FALLEN),
        ("RP?", Reason.FALLEN),
        ("RPF", Reason.TIMED_OUT),
        ("RPPP", Reason.RISEN),
        ("???", Reason.NOT_YET_KNOWN),
    ],
)
def test_down_rests_on_what_failed_last_and_never_on_our_own_trouble(outcomes: str, rests_on: Reason) -> None:
    assert evidence(outcomes) is rests_on


UP = Health(Verdict.UP, Verdict.UP, 3, 0, 10.0, 10.0)
DOWN = Health(Verdict.DOWN, Verdict.DOWN, 3, 0, 10.0, 10.0, Reason.TIMED_OUT)


@pytest.mark.parametrize(
    ("of_ike", "of_l2tp", "verdict", "decided_by"),
    [
        (UP, UP, Verdict.UP, None),
        (UP, DOWN, Verdict.DOWN, "l2tp"),
        (DOWN, UP, Verdict.DOWN, "ike"),
        (Health(), UP, Verdict.UNKNOWN, "ike"),
        (Health(), DOWN, Verdict.DOWN, "l2tp"),
    ],
)
def test_a_backend_is_up_only_when_all_its_probes_agree(
    of_ike: Health, of_l2tp: Health, verdict: Verdict, decided_by: str | None
) -> None:
    records = {ProbeKey(1, "ike"): of_ike, ProbeKey(1, "l2tp"): of_l2tp}
    found = health.backend_verdict(backend(1, ike(), l2tp()), records, 10.0)
    assert (found[0], found[2]) == (verdict, decided_by)
