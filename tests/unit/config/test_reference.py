"""docs/configuration.md says what the schema says."""

from __future__ import annotations

import re

from popctl.config.reference import MODELS, rewrite
from popctl.config.schema_probes import Icmp, Pace, ProbeSet, Section
from tests.unit.config.samples import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_tables_are_up_to_date() -> None:
    """`python -m popctl.config.reference docs/configuration.md` renews them."""
    assert rewrite(PAGE.read_text()) == PAGE.read_text()


def test_every_mapping_of_the_file_has_its_table() -> None:
    shown = set(re.findall(r"<!-- table: ([a-z0-9_ ]+) -->", PAGE.read_text()))
    assert shown == {*MODELS, "built_in profiles"}
    assert set(MODELS.values()) == {*Section.__subclasses__(), *Pace.__subclasses__()} - {Icmp, ProbeSet}


def test_every_key_has_a_description() -> None:
    undescribed = [
        f"{model.__name__}.{key}"
        for model in MODELS.values()
        for key, field in model.model_fields.items()
        if not field.description
    ]
    assert undescribed == []
