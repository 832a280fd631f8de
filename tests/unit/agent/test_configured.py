"""Ids of backends are permanent: what contradicts live SAs is refused in one line, before anything was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popctl.agent.configured import Configured
from popctl.config.errors import ConfigError
from popctl.config.ids import followed, record_path
from popctl.wire.registry import Record, Tenure, decode, encode
from tests.unit.config.samples import minimal, parse_minimal

DAY = 86400.0
BALANCER = (
    "    prefixes: [198.51.100.0/24]\n",
    "    prefixes: [198.51.100.0/24]\n    balancer: {vips: [198.51.100.1]}\n",
)
PLAN = "spi_plan: {site: example.net}\n"


def written(directory: Path, *substitutions: tuple[str, str], tail: str = PLAN) -> Path:
    """Write a configuration whose state lives in `directory`."""
    text = minimal(BALANCER, *substitutions, tail=f"{tail}paths: {{state_file: {directory}/state.json}}\n")
    path = directory / "popctl.yaml"
    path.write_text(text)
    return path


def started(directory: Path, *substitutions: tuple[str, str], tail: str = PLAN) -> Configured:
    """Do what an agent does when it starts."""
    configured = Configured.load(written(directory, *substitutions, tail=tail))
    configured.remember_ids()
    return configured


def refused(directory: Path, *substitutions: tuple[str, str], tail: str = PLAN) -> str:
    """Return the one line that says why; the record is as before."""
    record = directory / "state.ids.json"
    before = record.read_bytes()
    with pytest.raises(ConfigError) as caught:
        Configured.load(written(directory, *substitutions, tail=tail))
    assert record.read_bytes() == before
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{directory}/popctl.yaml: ")


def test_a_start_records_who_has_which_id(tmp_path: Path) -> None:
    pop = started(tmp_path).pop
    record = decode(record_path(pop).read_bytes())
    assert (record.pop, record.plan) == (1, pop.spi_plan)
    assert record.ids == (Tenure(id=1, name="vpn-1"), Tenure(id=2, name="vpn-2"))
    started(tmp_path)
    assert decode(record_path(pop).read_bytes()) == record


def test_an_id_is_not_given_to_another_backend_at_once(tmp_path: Path) -> None:
    started(tmp_path)
    assert refused(tmp_path, ("name: vpn-2", "name: vpn-9")) == (
        f"backends.vpn-9.id: found {tmp_path}/state.ids.json: 2 belongs to 'vpn-2', "
        "whose SAs may live for another 86400 s; "
        "remedy: give it an id that was never used, or leave the id to nobody for so long"
    )


def test_an_id_is_free_again_when_the_longest_sa_has_ended(tmp_path: Path) -> None:
    started(tmp_path)
    heir = parse_minimal(
        BALANCER, ("name: vpn-2", "name: vpn-9"), tail=f"{PLAN}paths: {{state_file: {tmp_path}/state.json}}\n"
    )
    alone = started(tmp_path, ("  - {id: 2, name: vpn-2, address: 10.0.0.2, probes: vpn}\n", ""))
    assert alone.record
    retired = alone.record.ids[1].retired_unix_s
    assert retired is not None
    assert [one.path for one in followed(heir, unix_s=retired + DAY - 1)[1]] == ["backends.vpn-9.id"]
    assert followed(heir, unix_s=retired + DAY)[1] == ()


def test_another_pop_id_is_refused(tmp_path: Path) -> None:
    started(tmp_path)
    assert refused(tmp_path, ("id: 1\n  name: fra1", "id: 3\n  name: fra1")).startswith(
        f"pop.id: found {tmp_path}/state.ids.json: is 3, and SAs carry 1; remedy: ids are permanent"
    )


def test_an_inventory_that_lays_out_spis_differently_is_refused(tmp_path: Path) -> None:
    started(tmp_path)
    assert refused(tmp_path, tail="spi_plan: {site: example.net, pop_bits: 9, sa_bits: 17}\n").startswith(
        f"spi_plan.esp_base: found {tmp_path}/state.ids.json: ESP ranges overlap: "
    )


def test_a_new_plan_is_rolled_out_beside_the_old_one(tmp_path: Path) -> None:
    started(tmp_path)
    alone = "spi_plan: {site: example.net, generation: 1}\n"
    assert refused(tmp_path, tail=alone).startswith(
        f"spi_plan.previous: found {tmp_path}/state.ids.json: lacks {{site: example.net, pop_bits: 10, "
    )
    both = started(tmp_path, tail="spi_plan: {site: example.net, generation: 1, previous: {site: example.net}}\n")
    assert refused(tmp_path, tail=alone).startswith("spi_plan.previous: ")
    assert both.record
    over = parse_minimal(BALANCER, tail=f"{alone}paths: {{state_file: {tmp_path}/state.json}}\n")
    assert followed(over, unix_s=both.record.replaced[0].unix_s + DAY)[1] == ()


@pytest.mark.parametrize("damage", [b"", b"{}", b"null"])
def test_a_record_that_cannot_be_believed_refuses_the_start(tmp_path: Path, damage: bytes) -> None:
    started(tmp_path)
    (tmp_path / "state.ids.json").write_bytes(damage)
    assert refused(tmp_path).startswith(
        f"backends: found {tmp_path}/state.ids.json: the record of ids cannot be read: "
    )


def test_a_site_that_starts_without_state_starts_without_the_record(tmp_path: Path) -> None:
    started(tmp_path)
    record = tmp_path / "state.ids.json"
    record.write_bytes(b"{}")
    started(tmp_path, tail=f"{PLAN}state: {{on_corrupt: serve}}\n")
    assert decode(record.read_bytes()).pop == 1


def test_without_a_balancer_nothing_is_recorded_and_what_was_is_kept(tmp_path: Path) -> None:
    started(tmp_path)
    path = tmp_path / "popctl.yaml"
    path.write_text(path.read_text().replace("    balancer: {vips: [198.51.100.1]}\n", ""))
    gone = Configured.load(path)
    assert isinstance(gone.record, Record)
    assert {tenure.name for tenure in gone.record.ids if tenure.retired_unix_s is not None} == {"vpn-1", "vpn-2"}
    (tmp_path / "state.ids.json").unlink()
    assert Configured.load(path).record is None


def test_a_record_is_readable_by_an_operator() -> None:
    shown = json.loads(encode(Record(pop=1, plan=None, ids=(Tenure(id=2, name="b"),))))
    assert shown["ids"] == [{"id": 2, "name": "b", "retired_unix_s": None}]
