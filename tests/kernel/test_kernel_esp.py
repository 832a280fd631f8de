"""Real L2TP/IPsec sessions with kernel ESP, native and behind NAT, in a User Mode Linux guest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel import uml

GUEST = Path(__file__).with_name("guest_l2tp.py")
NAMES = re.findall(r"^def (test_\w+)", GUEST.read_text(), re.MULTILINE)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(200)]


@pytest.mark.parametrize("name", NAMES)
def test_in_the_guest(name: str) -> None:
    if why := uml.missing():
        pytest.skip(why)
    code, text = uml.run_tests(GUEST.name, name, within_s=180)
    assert code == 0, text[-6000:]


def test_a_guest_passes_exit_codes_on() -> None:
    if why := uml.missing():
        pytest.skip(why)
    assert uml.run(["sh", "-c", "exit 7"], within_s=60)[0] == 7
