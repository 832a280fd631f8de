"""The second way to raise a lab says why it cannot, where it cannot."""

import shutil
from pathlib import Path

import pytest

from lab.containerlab import ContainerlabDriver, unavailable
from lab.errors import DriverUnavailableError
from lab.topology_file import load

PAIR = Path(__file__).parents[2] / "data" / "lab" / "pair.clab.yml"


@pytest.mark.skipif(shutil.which("containerlab") is not None, reason="containerlab is installed here")
def test_without_containerlab_the_reason_is_given_before_anything_is_done() -> None:
    assert "containerlab is not on PATH" in unavailable()
    with pytest.raises(DriverUnavailableError, match="containerlab is not on PATH"):
        ContainerlabDriver(load(PAIR))
