"""CAIDA relationship files: what is read, and what is said about bad ones."""

from __future__ import annotations

import bz2
import gzip
from typing import TYPE_CHECKING

import pytest

from topology.caida import load, parse
from topology.errors import TopologyError

if TYPE_CHECKING:
    from pathlib import Path

SERIAL_1 = "# inferred clique: 1 2\n# IXP ASes: 9\n1|2|0\n1|3|-1\n2|3|-1\n"
SERIAL_2 = "# source:topology|BGP|20251201\n1|2|0|mlp\n1|3|-1|bgp\n2|3|-1|bgp\n"


@pytest.mark.parametrize("text", [SERIAL_1, SERIAL_2], ids=["serial-1", "serial-2"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_both_forms_are_read_plain_and_compressed(tmp_path: Path, text: str, suffix: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
    path = tmp_path / f"as-rel.txt{suffix}"
    path.write_bytes(pack(text.encode()))
    links = load(path)
    assert links.asns.tolist() == [1, 2, 3]
    assert links.asns[links.transit].tolist() == [[1, 3], [2, 3]]
    assert links.asns[links.peering].tolist() == [[1, 2]]


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "f"
    path.write_text(text, encoding="utf-8")
    lines = text.splitlines(keepends=True)
    with pytest.raises(TopologyError) as caught:
        _ = load(path) if text.isascii() else parse(lines, source=str(path))
    return [str(problem).removeprefix(f"{path}:").strip() for problem in caught.value.problems]


def test_an_as_may_be_said_to_be_in_a_region_twice(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1|2|0\n# region|europe|1 2\n# region|europe|2\n")
    assert load(path).regions == ("europe",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1|2|-1\n1|x|0\n", "2: not two AS numbers: '1', 'x'"),
        ("1|2|1\n", "1: unknown relationship '1'; -1 and 0 are known"),
        ("0|2|0\n", "1: AS number out of 1..4294967294: 0, 2"),
        ("1|4294967295|0\n", "1: AS number out of 1..4294967294: 1, 4294967295"),
        ("7|7|0\n", "1: AS 7 has a link to itself"),
        ("1|2\n", "1: 2 fields; serial-1 has 3, serial-2 has 4"),
        ("\n1|2|0\n", "1: 1 fields; serial-1 has 3, serial-2 has 4"),
        ("1|2|0\n1|3|0|bgp\n", "2: 4 fields after lines of 3: two formats in one file"),
        ("1|2|0\n2|1|-1\n", "2: AS 2 and AS 1 are related otherwise in line 1"),
        ("1|2|-1\n3|4|0\n2|1|-1\n", "3: AS 2 and AS 1 are related otherwise in line 1"),
        ("1|2|0\n1|3|-1", "2: ends in the middle of a line: truncated"),
        ("# nothing\n", "has no links"),
        ("1_0|+5|-1\n", "1: not two AS numbers: '1_0', '+5'"),
        (" 11 | 12|-1\n", "1: not two AS numbers: ' 11 ', ' 12'"),
        ("1|99999999999999999999999|0\n", "1: not two AS numbers: '1', '99999999999999999999999'"),
        ("1|\u0662|0\n", "1: not two AS numbers: '1', '\u0662'"),
        ("1|2|0\n# region|europe|1 0\n", "2: region 'europe': '0' is not an AS number of 1..4294967294"),
        ("1|2|0\n# region|europe|-5 1\n", "2: region 'europe': '-5' is not an AS number of 1..4294967294"),
        (
            "# region|europe|4294967295\n1|2|0\n",
            "1: region 'europe': '4294967295' is not an AS number of 1..4294967294",
        ),
        ("# region|eu|" + "9" * 23 + "\n1|2|0\n", f"1: region 'eu': '{'9' * 23}' is not an AS number of 1..4294967294"),
        ("# region|europe|1_0\n1|2|0\n", "1: region 'europe': '1_0' is not an AS number of 1..4294967294"),
        ("1|2|0\n# region|europe|1 2\n# region|africa|2\n", "3: AS 2 is in region 'europe' by line 2, not in 'africa'"),
        ("# region|europe\n1|2|0\n", "1: a region is not followed by AS numbers: write `# region|NAME|ASN ASN ...`"),
        ("# region||1\n1|2|0\n", "1: a region has no name: write `# region|NAME|ASN ASN ...`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, wanted: str) -> None:
    assert problems(tmp_path, text) == [wanted]


def test_all_bad_lines_are_listed_at_once_in_order(tmp_path: Path) -> None:
    found = problems(tmp_path, "1|2|0\nx|2|0\n1|2|-1\n1|2|7\n2|2|0\n")
    assert [line.split(":")[0] for line in found] == ["2", "3", "4", "5"]


def test_repeating_a_link_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1|2|0\n2|1|0\n1|3|-1\n1|3|-1\n")
    assert len(load(path).peering) == len(load(path).transit) == 1


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_a_truncated_archive_is_said_to_be_unreadable(tmp_path: Path, suffix: str) -> None:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
    path = tmp_path / f"f{suffix}"
    path.write_bytes(pack(SERIAL_1.encode() * 50)[:-9])
    with pytest.raises(TopologyError, match="cannot be read"):
        load(path)


def test_bad_lines_before_the_end_of_a_truncated_archive_are_told_too(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(b"1|2|0\n1|x|0\n" + SERIAL_1.encode() * 5000)[:-9])
    with pytest.raises(TopologyError) as caught:
        load(path)
    first, last = caught.value.problems
    assert (first.line, first.text) == (2, "not two AS numbers: '1', 'x'")
    assert last.line > 2
    assert last.text.startswith("cannot be read: Compressed file ended")


def test_a_missing_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path / "none")
