"""Files of every TLS that the configuration asks for: what cannot be used is told before anything depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from popctl.config.checks_routing import problem
from popctl.config.errors import KeyPath, Problem
from popctl.config.tls_files import FileLook, TlsFiles

if TYPE_CHECKING:
    from popctl.config.shape import Parts


class _Use(NamedTuple):
    path: KeyPath
    files: TlsFiles
    authority: str
    """The key that names the authority."""


def files(parts: Parts, look: FileLook) -> Iterator[Problem]:
    """Certificate, key and authority can be used, wherever they are named; those that several share are told once."""
    told: set[TlsFiles] = set()
    for use in _uses(parts):
        if use.files in told:
            continue
        told.add(use.files)
        for flaw in look(use.files):
            key = use.authority if flaw.key == "authority" else flaw.key
            yield problem((*use.path, key), getattr(use.files, flaw.key), flaw.problem, flaw.remedy)


def _uses(parts: Parts) -> Iterator[_Use]:
    if parts.api is not None and "api" not in parts.broken:
        own = TlsFiles(parts.api.certificate, parts.api.key, parts.api.client_ca)
        yield _Use(("api",), own, "client_ca")
    if parts.fleet is not None and parts.fleet.tls is not None:
        tls = parts.fleet.tls
        yield _Use(("fleet", "tls"), TlsFiles(tls.certificate, tls.key, tls.ca), "ca")
    for part in parts.backends:
        meter = part.value.meter
        if meter is not None and meter.certificate and meter.key and meter.ca:
            yield _Use((*part.path, "meter"), TlsFiles(meter.certificate, meter.key, meter.ca), "ca")
