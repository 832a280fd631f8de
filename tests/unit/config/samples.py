"""Where the sample files are, and the secrets that they name."""

from __future__ import annotations

from pathlib import Path

from popctl.config.load import parse
from popctl.config.tls_files import look_away
from popctl.model.pop import Pop

ROOT = Path(__file__).parents[3]
GOOD = ROOT / "tests" / "data" / "config" / "good"
BAD = ROOT / "tests" / "data" / "config" / "bad"
EXAMPLE = ROOT / "docs" / "example.yaml"

SECRETS = {
    "/secrets/psk": "the psk",
    "/secrets/l2tp": "the tunnel secret",
    "/secrets/long": "x" * 81,
    "/secrets/umlaut": "schlüssel",
    "/etc/popctl/secrets/upstream-a.md5": "the md5 key",
    "/etc/popctl/secrets/probe.psk": "the probe psk",
}


def read_secret(path: Path) -> str:
    return SECRETS[str(path)]


def parse_file(path: Path) -> Pop:
    return parse(path.read_text(), path.name, read_secret=read_secret, look=look_away)


def minimal(*substitutions: tuple[str, str], tail: str = "") -> str:
    """Return the minimal configuration with some text replaced and some added."""
    text = (GOOD / "minimal.yaml").read_text()
    for old, new in substitutions:
        assert old in text
        text = text.replace(old, new, 1)
    return text + tail


def parse_minimal(*substitutions: tuple[str, str], tail: str = "") -> Pop:
    return parse(minimal(*substitutions, tail=tail), "pop.yaml", read_secret=read_secret, look=look_away)
