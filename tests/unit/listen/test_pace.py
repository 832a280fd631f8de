"""One host that connects without end is slowed down; the others are not."""

from __future__ import annotations

from popctl.listen.pace import HandshakePace


def test_handshakes_beyond_the_burst_wait_their_turn_and_other_hosts_do_not() -> None:
    pace = HandshakePace()
    delays = [pace.delay_s("192.0.2.1", 1000.0) for _ in range(102)]
    assert delays[:100] == [0.0] * 100
    assert [round(delay, 3) for delay in delays[100:]] == [0.02, 0.04]
    assert pace.delay_s("192.0.2.2", 1000.0) == 0.0
    assert pace.delay_s("192.0.2.1", 1010.0) == 0.0


def test_hosts_that_come_once_are_not_remembered_for_ever() -> None:
    pace = HandshakePace()
    for _ in range(110):
        pace.delay_s("192.0.2.1", 1000.0)
    assert pace.delay_s("192.0.2.1", 1000.0) > 0
    for number in range(1024):
        pace.delay_s(f"2001:db8::{number:x}", 1000.0)
    assert pace.delay_s("192.0.2.1", 1000.0) == 0.0
