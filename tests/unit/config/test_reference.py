"""docs/configuration.md says what the schema says."""

from __future__ import annotations

import re

from popctl.config import schema_inventory
from popctl.config.reference import MODELS, rewrite
from popctl.config.schema_balancer import SpiPlan
from popctl.config.schema_probes import Icmp, Pace, ProbeSet, Section
from tests.unit.config.samples import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_tables_are_up_to_date() -> None:
    """`python -m popctl.config.reference docs/configuration.md` renews them."""
    assert rewrite(PAGE.read_text()) == PAGE.read_text()


def test_every_mapping_of_the_file_has_its_table() -> None:
    shown = set(re.findall(r"<!-- table: ([a-z0-9_ ]+) -->", PAGE.read_text()))
    assert shown == {*MODELS, "built_in profiles"}
    ours = {one for one in Section.__subclasses__() if one.__module__ != schema_inventory.__name__}
    assert set(MODELS.values()) == {*ours, *Pace.__subclasses__()} - {Icmp, ProbeSet}


def test_every_key_of_a_balancers_own_file_is_in_its_example() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "balancer.md").read_text(), re.DOTALL)
    shown = set(re.findall(r"(\w+):", example))
    models = [one for one in Section.__subclasses__() if one.__module__ == schema_inventory.__name__]
    assert {key for model in (*models, SpiPlan) for key in model.model_fields} <= shown


def test_every_key_has_a_description() -> None:
    undescribed = [
        f"{model.__name__}.{key}"
        for model in MODELS.values()
        for key, field in model.model_fields.items()
        if not field.description
    ]
    assert undescribed == []
