"""Compiled graphs on disk: one file, versioned and checksummed, read back in milliseconds.

Layout: a line with the BLAKE2b checksum of all that follows, a line of JSON (version, digest of the source, shape of
every array), then the arrays in that order. A file that is of another version, of another source or damaged is no
error: the graph is compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topology.flat import Adjacency, FlatGraph, Links, compile_links

if TYPE_CHECKING:
    from collections.abc import Callable

    from topology.links import AsLinks

VERSION = 1
_COLUMNS = ("asn", "members", "node_of_member", "order", "by_order", "rank", "level_ptr", "level_split", "region")
_TYPES = {"i2": np.int16, "i4": np.int32, "i8": np.int64}


def compiled(source: Path, load: Callable[[Path], AsLinks], cache: Path) -> FlatGraph:
    """Return the compiled graph of `source`, from `cache` when that holds it, else compiled now and stored there."""
    digest = digest_of(source)
    graph = read(cache, digest)
    if graph is None:
        graph = compile_links(load(source))
        # Without a cache the next start is slower, which is no reason to refuse this one.
        with contextlib.suppress(OSError):
            write(cache, graph, digest)
    return graph


def digest_of(source: Path) -> str:
    """Return the BLAKE2b digest of a file's content, which is what a cache file is bound to."""
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write(path: Path, graph: FlatGraph, source_digest: str) -> None:
    """Store a graph. The file appears whole or not at all."""
    arrays = _arrays(graph)
    body = b"".join(np.ascontiguousarray(array).tobytes() for _, array in arrays)
    header = {
        "version": VERSION,
        "source": source_digest,
        "arrays": [[name, array.dtype.str[1:], len(array)] for name, array in arrays],
        "regions": graph.regions,
        "collapsed": graph.collapsed,
    }
    content = json.dumps(header).encode() + b"\n" + body
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as stream:
        stream.write(checksum(content) + b"\n")
        stream.write(content)
    os.replace(stream.name, path)  # noqa: PTH105 - the name is a string, and replace is the point: atomic


def read(path: Path, source_digest: str) -> FlatGraph | None:
    """Return the stored graph, or None when there is none, or none that can be trusted for this source."""
    try:
        said, _, content = path.read_bytes().partition(b"\n")
        if said != checksum(content):
            return None
        head, _, body = content.partition(b"\n")
        header = json.loads(head)
        if (header["version"], header["source"]) != (VERSION, source_digest):
            return None
        return _graph(header, body)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checksum(content: bytes) -> bytes:
    """Return what the first line of a cache file must say about the rest."""
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def _arrays(graph: FlatGraph) -> list[tuple[str, np.ndarray[Any, Any]]]:
    columns = [(name, getattr(graph, name)) for name in _COLUMNS]
    for name, adjacency in zip(Links._fields, graph.links, strict=True):
        columns += [(f"{name}.ptr", adjacency.ptr), (f"{name}.to", adjacency.to)]
    return columns


def _graph(header: dict[str, Any], body: bytes) -> FlatGraph:
    arrays: dict[str, Any] = {}
    offset = 0
    for name, kind, count in header["arrays"]:
        arrays[name] = np.frombuffer(body, dtype=_TYPES[kind], count=count, offset=offset)
        offset += arrays[name].nbytes
    links = Links(*(Adjacency(ptr=arrays[f"{name}.ptr"], to=arrays[f"{name}.to"]) for name in Links._fields))
    return FlatGraph(
        **{name: arrays[name] for name in _COLUMNS},
        links=links,
        regions=tuple(header["regions"]),
        collapsed=tuple(tuple(cycle) for cycle in header["collapsed"]),
    )
