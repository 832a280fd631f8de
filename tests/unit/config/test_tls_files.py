"""Certificates, keys and authorities are looked at before anything starts: one problem for each key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from popctl.config.errors import ConfigError
from popctl.config.load import load
from tests.certificates import CLIENT, SERVER, Authority
from tests.unit.config.samples import minimal


class Site:
    """The files of one PoP."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "pki")
        issued = self.authority.issue("server", SERVER)
        self.certificate, self.key, self.client_ca = issued.certificate, issued.key, self.authority.ca

    def problems(self) -> dict[str, str]:
        """Return what is wrong with a configuration that names the files, by key."""
        files = f"certificate: {self.certificate}, key: {self.key}, client_ca: {self.client_ca}"
        return self._told(minimal(tail=f'api: {{address: 192.0.2.10, port: 8443, {files}, operate: ["cn:alice"]}}\n'))

    def problems_of_clients(self, *, fleet: bool, meters: bool) -> dict[str, str]:
        """Return what is wrong with a configuration that names the files for the store, for both meters, or for all."""
        files = f"certificate: {self.certificate}, key: {self.key}, ca: {self.client_ca}"
        tail = (
            f'fleet: {{name: site, region: eu, etcd: ["https://127.0.0.1:2379"], tls: {{{files}}}}}\n' if fleet else ""
        )
        meter = f"probes: vpn, meter: {{host: vpn, port: 8443, {files}}}"
        backends = [(f"{one}, probes: vpn", f"{one}, {meter}") for one in ("address: 10.0.0.1", "address: 10.0.0.2")]
        return self._told(minimal(*(backends if meters else ()), tail=tail))

    def _told(self, text: str) -> dict[str, str]:
        path = self.directory / "pop.yaml"
        path.write_text(text)
        try:
            load(path)
        except ConfigError as error:
            return {problem.path: problem.problem for problem in error.problems}
        return {}


def test_files_that_belong_together_are_no_problem(tmp_path: Path) -> None:
    assert Site(tmp_path).problems() == {}


def _all_missing(site: Site) -> None:
    for path in (site.certificate, site.key, site.client_ca):
        path.unlink()


def _open_key(site: Site) -> None:
    site.key.chmod(0o644)


def _foreign_key(site: Site) -> None:
    site.key = site.authority.issue("other", CLIENT).key


def _sealed_key(site: Site) -> None:
    site.key = site.authority.issue("sealed", SERVER, password="a password").key  # noqa: S106 - of a test


def _garbage(site: Site) -> None:
    for path in (site.certificate, site.key, site.client_ca):
        path.write_text("-----BEGIN nothing\n")


def _directories(site: Site) -> None:
    site.certificate = site.key = site.client_ca = site.directory


MISSING = "cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_all_missing, {"api.certificate": MISSING, "api.key": MISSING, "api.client_ca": MISSING}),
        (_open_key, {"api.key": "is open to every user (mode 0644)"}),
        (_foreign_key, {"api.key": "is not the key of the certificate"}),
        (_sealed_key, {"api.key": "holds no key that can be used"}),
        (
            _garbage,
            {"api.certificate": "holds no certificate in PEM", "api.client_ca": "holds no certificate in PEM"},
        ),
        (
            _directories,
            {
                "api.certificate": "cannot be read (Is a directory)",
                "api.key": "cannot be read (Is a directory)",
                "api.client_ca": "cannot be read (Is a directory)",
            },
        ),
    ],
)
def test_each_file_that_cannot_be_used_is_told_under_its_key(
    tmp_path: Path, spoil: Callable[[Site], None], found: dict[str, str]
) -> None:
    site = Site(tmp_path)
    spoil(site)
    assert site.problems() == found


@pytest.mark.parametrize("where", ["fleet", "meters"])
def test_the_files_that_the_agent_itself_is_known_by_are_looked_at_as_well(tmp_path: Path, where: str) -> None:
    site = Site(tmp_path)
    named = {"fleet": where == "fleet", "meters": where == "meters"}
    at = "fleet.tls" if where == "fleet" else "backends[0].meter"
    assert site.problems_of_clients(**named) == {}
    _sealed_key(site)
    assert site.problems_of_clients(**named) == {f"{at}.key": "holds no key that can be used"}
    _all_missing(site)
    assert site.problems_of_clients(**named) == {f"{at}.{key}": MISSING for key in ("certificate", "key", "ca")}


def test_files_that_are_named_for_several_are_told_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    _open_key(site)
    told = site.problems_of_clients(fleet=True, meters=True)
    assert told == {"fleet.tls.key": "is open to every user (mode 0644)"}
