"""From a PoP to ExaBGP's files: golden text, the verdict of the real ExaBGP, and what cannot be said in them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.bgp.errors import ExaBgpMissingError
from popctl.bgp.render import CONF, ENVIRONMENT, MODES, RELAY, SETTINGS, Installation, RenderError, render, shared_files
from popctl.bgp.validate import validate, version
from popctl.model.pop import Lease, Neighbor, Pop, Secret
from tests.peers.exabgp import CHECKOUT, PROGRAM, edge_pop

GOLDEN = CHECKOUT / "tests" / "data" / "exabgp" / "golden"
INSTALLATION = Installation(
    directory=Path("/etc/popctl/exabgp"),
    relay=Path("/usr/share/popctl/relay"),
    template=CHECKOUT / "exabgp" / "exabgp.conf.tmpl",
    python=Path("/usr/bin/python3"),
)
POP = edge_pop(Path("/run/popctl"))


def with_first(**change: object) -> Pop:
    """Return the PoP with its first neighbour changed."""
    first: Neighbor = replace(POP.neighbors[0], **change)  # type: ignore[arg-type]
    return replace(POP, neighbors=(first, *POP.neighbors[1:]))


@pytest.mark.parametrize("name", sorted(MODES))
def test_the_files_are_as_they_were_reviewed(name: str) -> None:
    assert render(POP, INSTALLATION)[name] == (GOLDEN / name).read_text()


def test_secrets_stand_in_the_configuration_of_mode_0600_alone() -> None:
    files = render(POP, INSTALLATION)
    assert [name for name, text in files.items() if "hush" in text] == [CONF]
    assert MODES[CONF] == 0o600


def test_the_environment_file_names_only_the_settings_because_a_dash_fits_no_variable() -> None:
    files = render(POP, INSTALLATION)
    assert files[ENVIRONMENT] == "EXABGP_ENVFILE=/etc/popctl/exabgp/exabgp.ini\n"
    assert "show-routes-format = 'v2'" in files[SETTINGS]


def test_the_relay_learns_lease_policy_and_allowlist() -> None:
    held = replace(POP, lease=Lease(duration_s=2.5, on_expiry_hold=True))
    data = json.loads(render(held, INSTALLATION)[RELAY])
    assert (data["lease_s"], data["on_expiry"], data["asn"]) == (2.5, "hold", 65010)
    assert data["allow"]["prefixes"] == ["198.51.100.0/24", "2001:db8:100::/48"]


def test_another_port_is_called_and_a_passive_neighbour_is_listened_for() -> None:
    assert "  connect 1179;\n" in render(with_first(port=1179), INSTALLATION)[CONF]
    files = render(with_first(port=1179, passive=True, ttl_security_hops=None), INSTALLATION)
    assert "  passive true;\n" in files[CONF]
    assert "bind = '192.0.2.10'\nport = 1179\n" in files[SETTINGS]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"md5": Secret('a"b')}, "printable ASCII"),
        ({"md5": Secret("a'b")}, "printable ASCII"),
        ({"md5": Secret("a\\b")}, "printable ASCII"),
        ({"md5": Secret("x" * 81)}, "1 to 80"),
        ({"md5": Secret("a\nb")}, "printable ASCII"),
        ({"ttl_security_hops": 255}, "between 1 and 254"),
        ({"passive": True}, "does not check the TTL"),
    ],
)
def test_what_cannot_be_said_is_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(RenderError, match=problem) as refused:
        render(with_first(**change), INSTALLATION)
    assert refused.value.where == "neighbor 192.0.2.1"


def test_a_path_that_exabgp_would_split_is_refused() -> None:
    with pytest.raises(RenderError):
        render(POP, replace(INSTALLATION, directory=Path("/etc/pop ctl")))


def test_relay_and_template_are_found_in_the_checkout() -> None:
    assert (shared_files() / "exabgp.conf.tmpl").read_text() == INSTALLATION.template.read_text()


@pytest.mark.peer
def test_the_real_exabgp_accepts_the_files_and_rejects_a_broken_one() -> None:
    here = replace(INSTALLATION, python=Path(sys.executable), user="root")
    files = render(POP, here)
    assert validate(files, [str(PROGRAM)]) == ()
    broken = {**files, CONF: files[CONF].replace("peer-as", "peer-ass")}
    problems = validate(broken, [str(PROGRAM)])
    assert any("peer-ass" in problem for problem in problems)
    (problem,) = validate(render(POP, replace(here, user="nobody-of-this-name")), [str(PROGRAM)])
    assert "nobody-of-this-name" in problem


@pytest.mark.peer
def test_a_complaint_never_shows_a_key() -> None:
    """Of two keys, of which one is in the other, nothing is left either."""
    first, second = (replace(one, md5=Secret(key)) for one, key in zip(POP.neighbors, ("s3cr", "s3cret"), strict=True))
    here = replace(INSTALLATION, python=Path(sys.executable), user="root")
    files = render(replace(POP, neighbors=(first, second)), here)
    for end in ("", " more"):
        broken = {**files, CONF: files[CONF].replace('cret";', f'cret"{end}').replace('s3cr";', f's3cr"{end}')}
        problems = validate(broken, [str(PROGRAM)])
        assert problems
        assert not any("s3cr" in problem or "et" in problem.split() for problem in problems)


@pytest.mark.peer
def test_the_version_is_told_and_a_missing_or_old_exabgp_is_refused(tmp_path: Path) -> None:
    assert version([str(PROGRAM)]).startswith("5.")
    with pytest.raises(ExaBgpMissingError, match="does not run"):
        version([str(tmp_path / "exabgp")])
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 'ExaBGP : 4.2.25'\n")
    old.chmod(0o755)
    with pytest.raises(ExaBgpMissingError, match=r"is version 4\.2\.25; popctl needs exabgp>=5\.0\.14,<6"):
        validate(render(POP, INSTALLATION), [str(old)])
