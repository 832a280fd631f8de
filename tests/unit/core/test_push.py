"""A push makes things worse faster; it never makes them better, and health comes back through probes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from popctl.core import health, push
from popctl.model.observation import Observation, Outcome
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.view import Health, Verdict
from tests.pops import THRESHOLDS, backend

BACKEND = backend(1)


def test_a_dead_daemon_takes_every_probe_of_its_backend_down_at_once() -> None:
    found = push.died(BACKEND, 5.0, {})
    assert set(found) == {ProbeKey(1, "ike"), ProbeKey(1, "l2tp")}
    assert health.backend_verdict(BACKEND, found, 5.0)[:2] == (Verdict.DOWN, Reason.DAEMON_DIED)


def test_after_a_death_a_backend_needs_a_full_rise_of_every_probe() -> None:
    known = dict(push.died(BACKEND, 5.0, {}))
    for number in range(THRESHOLDS.rise):
        assert health.backend_verdict(BACKEND, known, 6.0)[0] is Verdict.DOWN
        for key, record in known.items():
            passed = Observation(key=key, outcome=Outcome.PASS, reason=Reason.ANSWERED, at=6.0 + number)
            known[key] = health.step(record, passed, THRESHOLDS)
    assert health.backend_verdict(BACKEND, known, 9.0)[0] is Verdict.UP


@given(
    records=st.fixed_dictionaries(
        {
            ProbeKey(1, name): st.builds(
                Health,
                verdict=st.sampled_from(Verdict),
                leaning=st.sampled_from(Verdict),
                streak=st.integers(0, 9),
                heard_at=st.none() | st.floats(0, 10),
                answered_at=st.none() | st.floats(0, 10),
            )
            for name in ("ike", "l2tp")
        }
    ),
    at=st.floats(0, 10),
)
def test_no_push_ever_makes_a_verdict_better(records: dict[ProbeKey, Health], at: float) -> None:
    order = [Verdict.DOWN, Verdict.UNKNOWN, Verdict.UP]
    before = health.backend_verdict(BACKEND, records, 10.0)[0]
    after = health.backend_verdict(BACKEND, {**records, **push.died(BACKEND, at, records)}, 10.0)[0]
    assert order.index(after) <= order.index(before)
