"""Real L2TP/IPsec sessions with kernel ESP, native and behind NAT, in a User Mode Linux guest.

The tests are in `guest_l2tp.py`. All that are asked for run in one guest; here is one result for each.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel import uml

GUEST = Path(__file__).with_name("guest_l2tp.py")
NAMES = re.findall(r"^def (test_\w+)", GUEST.read_text(), re.MULTILINE)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest) -> str:
    """Run the wanted tests in a guest, and return what pytest said there."""
    if why := uml.missing():
        pytest.skip(why)
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if hasattr(item, "callspec") and item.fspath == request.fspath
    ]
    return uml.run_tests(GUEST.name, wanted, within_s=400)


@pytest.mark.parametrize("name", NAMES)
def test_in_the_guest(said: str, name: str) -> None:
    outcomes = set(re.findall(rf"::{name} (\w+)", said))
    assert outcomes == {"PASSED"}, said[-8000:]


def test_a_guest_passes_exit_codes_on() -> None:
    if why := uml.missing():
        pytest.skip(why)
    assert uml.run(["sh", "-c", "exit 7"], within_s=60)[0] == 7
