"""The topology that ships: valid for containerlab, and consistent with its node files."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lab.__main__ import TOPOLOGY
from lab.topology_file import load
from popctl.cli.lb_inventory import load as load_inventory
from popctl.wire.spi import Identity, label
from popctl.wire.strongswan_conf import render

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    """The schema of containerlab v0.79.0. Python's `re` lacks Unicode classes: they are spelled out."""
    text = (DATA / "clab.schema.json").read_text().replace(r"[\\p{N}\\p{L}]", "[0-9A-Za-z]")
    schema = json.loads(text)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def topology() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(TOPOLOGY.read_text())
    return document


@pytest.mark.parametrize("path", [TOPOLOGY, *sorted((DATA / "lab").glob("*.clab.yml"))], ids=lambda path: path.name)
def test_every_topology_is_valid_for_containerlab(path: Path, validator: jsonschema.protocols.Validator) -> None:
    assert [error.json_path for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


def test_the_schema_refuses_a_misspelt_key(validator: jsonschema.protocols.Validator) -> None:
    document = topology()
    document["topology"]["nodes"]["pop1"]["startup-dely"] = 3
    assert not validator.is_valid(document)


def test_the_schema_refuses_a_topology_without_nodes(validator: jsonschema.protocols.Validator) -> None:
    document = topology()
    del document["topology"]["nodes"]
    assert not validator.is_valid(document)


def test_every_backend_has_the_label_of_its_file_and_esp_ranges_are_disjoint() -> None:
    plan = load(TOPOLOGY)
    ranges = []
    for name in plan.group("backend"):
        text = (TOPOLOGY.parent / "nodes" / name / "spi.conf").read_text()
        found = dict(re.findall(r"^ *(spi_\w+) = 0x([0-9a-f]+)$", text, flags=re.MULTILINE))
        assert found["spi_label"] == plan.nodes[name].labels["popctl.spi-label"] + "0" * 8
        assert int(found["spi_label"], 16) & ~int(found["spi_mask"], 16) == 0
        ranges.append((int(found["spi_min"], 16), int(found["spi_max"], 16)))
    assert len({plan.nodes[name].labels["popctl.spi-label"] for name in plan.group("backend")}) == 4
    ordered = sorted(ranges)
    assert all(low <= high for low, high in ordered)
    assert all(before[1] < after[0] for before, after in pairwise(ordered))


@pytest.mark.parametrize("backend", ["pop1-b1", "pop1-b2", "pop2-b1", "pop2-b2"])
def test_what_a_backend_is_told_is_what_backend_config_says(backend: str) -> None:
    """The agent's configuration and strongSwan's agree, because one is made from the other."""
    nodes = TOPOLOGY.parent / "nodes"
    found = load_inventory(nodes / backend.partition("-")[0] / "popctl.yaml")
    identity = Identity(found.pop, found.ids[backend])
    _, _, shipped = (nodes / backend / "spi.conf").read_text().partition("\n")
    assert shipped in render(found.plan, identity, backend, [])
    assert load(TOPOLOGY).nodes[backend].labels["popctl.spi-label"] == f"{label(found.plan, identity):08x}"
