"""Where a program of ours listens, and who may do what there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from popctl.model.route import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixEndpoint:
    """A socket file; whoever may open it may come in."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsEndpoint:
    """A TCP port behind mutual TLS: nobody without a certificate of `authority` gets as far as HTTP."""

    address: Address
    port: int
    """0: any free one, for tests."""
    certificate: Path
    """Own chain (PEM)."""
    key: Path
    """Its key (PEM, not encrypted)."""
    authority: Path
    """Certificates (PEM) that sign those of clients."""

    def __str__(self) -> str:
        return f"{self.address} port {self.port}"


Endpoint: TypeAlias = UnixEndpoint | TlsEndpoint


class Role(StrEnum):
    """What a caller may do."""

    READ = "read"
    """Ask."""
    OPERATE = "operate"
    """Ask and order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteApi:
    """The operator API beyond this host."""

    endpoint: TlsEndpoint
    roles: Mapping[str, Role]
    """By a name that the client's certificate carries: `cn:NAME` or `uri:URI`. No name of it here: no role."""
