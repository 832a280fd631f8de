"""The cache of compiled graphs: whole, bound to its source, or not used."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.unit.topology.worlds import graph
from topology import cache
from topology.caida import load
from topology.flat import FlatGraph, compile_links

if TYPE_CHECKING:
    from pathlib import Path

    from topology.links import AsLinks


def assert_same(one: FlatGraph, other: FlatGraph) -> None:
    for field in fields(FlatGraph):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "links":
            left, right = ([part for way in links for part in way] for links in (left, right))
            assert all(np.array_equal(*pair) for pair in zip(left, right, strict=True))
        elif isinstance(left, tuple):
            assert left == right
        else:
            assert np.array_equal(left, right), field.name


@pytest.fixture
def flat() -> FlatGraph:
    return compile_links(graph([(1, 2), (2, 3), (3, 1), (3, 4)], [(4, 9)], region_of={4: "eu"}))


def test_a_graph_is_read_back_as_it_was(tmp_path: Path, flat: FlatGraph) -> None:
    cache.write(tmp_path / "c", flat, "digest")
    again = cache.read(tmp_path / "c", "digest")
    assert again is not None
    assert_same(again, flat)


def test_a_cache_of_another_source_is_not_used(tmp_path: Path, flat: FlatGraph) -> None:
    cache.write(tmp_path / "c", flat, "digest")
    assert cache.read(tmp_path / "c", "other") is None


def test_a_cache_of_another_version_is_not_used(tmp_path: Path, flat: FlatGraph) -> None:
    cache.write(tmp_path / "c", flat, "digest")
    _, _, content = (tmp_path / "c").read_bytes().partition(b"\n")
    newer = content.replace(b'"version": 1', b'"version": 2')
    (tmp_path / "c").write_bytes(cache.checksum(newer) + b"\n" + newer)
    assert cache.read(tmp_path / "c", "digest") is None


def test_a_cache_with_any_byte_damaged_is_not_used(tmp_path: Path, flat: FlatGraph) -> None:
    cache.write(tmp_path / "c", flat, "digest")
    whole = (tmp_path / "c").read_bytes()
    for place in range(0, len(whole), 7):
        (tmp_path / "c").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.read(tmp_path / "c", "digest") is None, place
    (tmp_path / "c").write_bytes(whole[:-1])
    assert cache.read(tmp_path / "c", "digest") is None


def test_the_source_is_compiled_once_and_again_when_it_changes(tmp_path: Path) -> None:
    source, stored = tmp_path / "as-rel.txt", tmp_path / "deep" / "cache"
    loads = []

    def counted(path: Path) -> AsLinks:
        loads.append(path)
        return load(path)

    source.write_text("1|2|-1\n")
    first = cache.compiled(source, counted, stored)
    assert_same(cache.compiled(source, counted, stored), first)
    assert len(loads) == 1
    source.write_text("1|2|0\n")
    assert len(cache.compiled(source, counted, stored).links.peers.to) == 2
    assert len(loads) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    source = tmp_path / "as-rel.txt"
    source.write_text("1|2|-1\n")
    (tmp_path / "file").touch()
    assert len(cache.compiled(source, load, tmp_path / "file" / "cache")) == 2
