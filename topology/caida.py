"""CAIDA AS-relationship files: serial-1 (`a|b|rel`) and serial-2 (`a|b|rel|source`), plain, gzip or bzip2.

`rel` is -1 (a is a provider of b) or 0 (peers). Lines that start with `#` are comments; one kind of comment is ours,
`# region|NAME|ASN ASN ...`, because these files say nothing about where an AS's users are. The data is CAIDA's: its
acceptable-use agreement asks for citation and for permission to redistribute, so none of it is part of this project.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from topology.errors import Problem, TopologyError
from topology.links import LARGEST_ASN, AsLinks, links_from_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

_PROVIDER_CUSTOMER = "-1"
_PEERS = "0"
_REGION = "# region|"
_SERIAL_1_FIELDS = 3
_SERIAL_2_FIELDS = 4
_MOST_DIGITS = len(str(LARGEST_ASN))


def load(path: Path) -> AsLinks:
    """Read one file; its form is found from its name (`.gz`, `.bz2`) and its first line of data.

    Raises:
        TopologyError: with every bad line; nothing is built from the good ones.
    """
    reader = _Reader(str(path))
    try:
        with _open(path) as stream:
            reader.take_all(stream)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TopologyError(reader.problems_until(f"cannot be read: {error}")) from error
    return reader.finish()


def _open(path: Path, mode: Literal["rt", "wt"] = "rt") -> IO[str]:
    match path.suffix:
        case ".gz":
            return gzip.open(path, mode, encoding="ascii")
        case ".bz2":
            return bz2.open(path, mode, encoding="ascii")
        case _:
            return path.open(mode, encoding="ascii")


def parse(lines: Iterable[str], *, source: str) -> AsLinks:
    """Read the lines of one file. Raises `TopologyError` as `load` does."""
    reader = _Reader(source)
    reader.take_all(lines)
    return reader.finish()


def write(path: Path, links: AsLinks, *, comment: str) -> None:
    """Write serial-1, packed as the name says. ASes without a link are kept by their region only."""
    with _open(path, "wt") as stream:
        stream.write(f"# {comment}\n")
        for index, name in enumerate(links.regions):
            stream.write(f"{_REGION}{name}|{' '.join(map(str, links.asns[links.region == index]))}\n")
        for relation, rows in ((_PROVIDER_CUSTOMER, links.transit), (_PEERS, links.peering)):
            stream.writelines(f"{first}|{second}|{relation}\n" for first, second in links.asns[rows].tolist())


def _asn(text: str) -> int | None:
    """Return a whole number of no more digits than an AS number has; `int` alone takes `1_0`, `+5` and blanks."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS else None


class _Reader:
    """Collects links and problems of one file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._problems: list[Problem] = []
        self._fields = 0
        self._last = 0
        self._ended = True
        self._first: list[int] = []
        self._second: list[int] = []
        self._peers: list[bool] = []
        self._numbers: list[int] = []
        self._regions: dict[int, tuple[str, int]] = {}
        """By AS; with the line that said so."""

    def _problem(self, number: int, text: str) -> None:
        self._problems.append(Problem(file=self._source, line=number, text=text))

    def take_all(self, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines, start=1):
            self.take(number, line)

    def problems_until(self, end: str) -> list[Problem]:
        """Return what was wrong before reading ended, and behind the last line why it did; line 0 if there was none."""
        return [*self._problems, Problem(file=self._source, line=self._last, text=end)]

    def take(self, number: int, line: str) -> None:
        self._last = number
        if line[0] == "#":
            self._ended = line[-1] == "\n"
            if line.startswith(_REGION):
                self._region(number, line)
            return
        self._ended = line[-1] == "\n"
        fields = line.rstrip("\n").split("|")
        if len(fields) != self._fields and not self._same_form(number, fields):
            return
        first, second = _asn(fields[0]), _asn(fields[1])
        if first is None or second is None:
            self._problem(number, f"not two AS numbers: {fields[0]!r}, {fields[1]!r}")
            return
        relation = fields[2]
        if relation not in (_PROVIDER_CUSTOMER, _PEERS):
            self._problem(number, f"unknown relationship {relation!r}; -1 and 0 are known")
        elif not (1 <= first <= LARGEST_ASN and 1 <= second <= LARGEST_ASN):
            self._problem(number, f"AS number out of 1..{LARGEST_ASN}: {first}, {second}")
        elif first == second:
            self._problem(number, f"AS {first} has a link to itself")
        else:
            self._first.append(first)
            self._second.append(second)
            self._peers.append(relation == _PEERS)
            self._numbers.append(number)

    def _region(self, number: int, line: str) -> None:
        """Take a comment that says where ASes are."""
        name, bar, asns = line.removeprefix(_REGION).partition("|")
        if not name.strip() or not bar:
            wrong = "is not followed by AS numbers" if name.strip() else "has no name"
            self._problem(number, f"a region {wrong}: write `{_REGION}NAME|ASN ASN ...`")
            return
        for text in asns.split():
            asn = _asn(text)
            if asn is None or not 1 <= asn <= LARGEST_ASN:
                self._problem(number, f"region {name!r}: {text!r} is not an AS number of 1..{LARGEST_ASN}")
                continue
            earlier, line_number = self._regions.setdefault(asn, (name, number))
            if earlier != name:
                said = f"AS {asn} is in region {earlier!r} by line {line_number}, not in {name!r}"
                self._problem(number, said)

    def _same_form(self, number: int, fields: list[str]) -> bool:
        """Tell whether a line of another width is the first one of data and of a known width."""
        if len(fields) not in (_SERIAL_1_FIELDS, _SERIAL_2_FIELDS):
            self._problem(number, f"{len(fields)} fields; serial-1 has 3, serial-2 has 4")
            return False
        if self._fields:
            self._problem(number, f"{len(fields)} fields after lines of {self._fields}: two formats in one file")
            return False
        self._fields = len(fields)
        return True

    def finish(self) -> AsLinks:
        if not self._ended:
            self._problem(self._last, "ends in the middle of a line: truncated")
        elif not self._numbers and not self._problems:
            self._problem(0, "has no links")
        first, second = np.array(self._first, dtype=np.int64), np.array(self._second, dtype=np.int64)
        peers = np.array(self._peers, dtype=bool)
        self._find_disagreements(first, second, peers)
        if self._problems:
            raise TopologyError(sorted(self._problems, key=lambda problem: problem.line))
        pairs = np.stack([first, second], axis=1)
        region_of = {asn: name for asn, (name, _) in self._regions.items()}
        return links_from_pairs(pairs[~peers], pairs[peers], region_of=region_of)

    def _find_disagreements(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], peers: npt.NDArray[np.bool_]
    ) -> None:
        """Report every later line about a pair of ASes that says something else than the first one about it."""
        if not len(first):
            return
        low, high = np.minimum(first, second), np.maximum(first, second)
        # 0: peers; 1: the lower number is the provider; 2: the higher one is.
        said = np.where(peers, 0, np.where(first == low, 1, 2))
        order = np.lexsort((np.arange(len(low)), high, low))
        same = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
        heads = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(len(order)), 0))
        wrong = said[order] != said[order][heads]
        for position in np.flatnonzero(wrong):
            index, head = order[position], order[heads[position]]
            text = f"AS {first[index]} and AS {second[index]} are related otherwise in line {self._numbers[head]}"
            self._problem(self._numbers[index], text)
