"""An agent whose API is open behind mutual TLS, and an authority that signs for it and for its callers."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import aiohttp

from popctl.model.listen import RemoteApi, Role, TlsEndpoint
from popctl.model.pop import Announce, Pop
from tests.certificates import CLIENT, SERVER, Authority, Issued
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.agent.api_rig import TestedAgent

NOC = "spiffe://example.net/noc"
ROLES = {"cn:alice": Role.OPERATE, f"uri:{NOC}": Role.OPERATE, "cn:monitoring": Role.READ}


@dataclass(frozen=True, slots=True)
class Site:
    """A running agent with a TCP port, and who signs for it."""

    agent: TestedAgent
    authority: Authority
    port: int
    audit_file: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def tls(self, client: Issued | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.ca)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    @asynccontextmanager
    async def client(self, issued: Issued | None) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=self.tls(issued))
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            yield session

    def person(self, name: str, *uris: str) -> Issued:
        return self.authority.issue(name, CLIENT, uris=uris)

    def audited(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.audit_file.read_bytes().splitlines()] if self.written() else []

    def written(self) -> bool:
        return self.audit_file.exists()

    def unchanged(self) -> bool:
        """Whether nothing that was refused left a trace in file, memory or decision."""
        calm = self.agent.announced() == {"vpn": Announce.NORMAL} and self.agent.store.intents == ()
        return calm and not self.agent.store.path.exists()


def with_port(pop: Pop, authority: Authority) -> Pop:
    server = authority.issue("server", SERVER)
    endpoint = TlsEndpoint(
        address=ip_address("127.0.0.1"),
        port=0,
        certificate=server.certificate,
        key=server.key,
        authority=authority.ca,
    )
    return replace(pop, remote_api=RemoteApi(endpoint=endpoint, roles=ROLES))


@asynccontextmanager
async def site(tmp_path: Path, api_clock: Callable[[], float] = time.monotonic) -> AsyncIterator[Site]:
    authority = Authority(tmp_path / "pki")
    pop = with_port(api_rig.small_pop(tmp_path), authority)
    async with api_rig.healthy(pop, api_clock=api_clock) as agent:
        remote = await eventually_async(lambda: agent.api.remote)
        assert remote is not None
        assert remote.port is not None
        yield Site(agent, authority, remote.port, tmp_path / "audit.jsonl")
