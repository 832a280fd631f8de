"""Configuration file -> `Pop`, or every problem at once. `popctl check` and the agent call the very same `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.config import (
    checks_api,
    checks_balancer,
    checks_capacity,
    checks_fleet,
    checks_paths,
    checks_probes,
    checks_routing,
    checks_tls,
)
from popctl.config.build import build
from popctl.config.errors import ConfigError, Problem
from popctl.config.secret_files import SecretReader, collect, read_secret_file
from popctl.config.shape import take_apart
from popctl.config.tls_files import FileLook, look_at_files
from popctl.config.yaml_text import read_tree

if TYPE_CHECKING:
    from pathlib import Path

    from popctl.model.pop import Pop

_MAX_BYTES = 8 * 1024 * 1024
_CHECKS = (
    *checks_routing.CHECKS,
    *checks_probes.CHECKS,
    *checks_paths.CHECKS,
    *checks_balancer.CHECKS,
    *checks_fleet.CHECKS,
    *checks_capacity.CHECKS,
    *checks_api.CHECKS,
)


def load(path: Path, *, read_secret: SecretReader = read_secret_file, look: FileLook = look_at_files) -> Pop:
    """Read a configuration file and the secret files it names, and look at its certificates.

    Raises:
        ConfigError: with every problem; also when the file itself cannot be read.
    """
    return parse(read(path), str(path), read_secret=read_secret, look=look)


def read(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: it cannot be read, is too large, or is no UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(str(path), (_unreadable(error.strerror or "cannot be read"),)) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), (_unreadable(f"is not UTF-8 text in line {line}"),)) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(str(path), (_unreadable(f"is larger than {_MAX_BYTES} bytes"),))
    return text


def parse(
    text: str, source: str, *, read_secret: SecretReader = read_secret_file, look: FileLook = look_at_files
) -> Pop:
    """Return the `Pop` that the text describes. Pure but for `read_secret` and `look`; `source` is for errors.

    Raises:
        ConfigError: with every problem, in an order that depends on the text alone.
    """
    tree, textual = read_tree(text, source)
    parts, shapely = take_apart(tree)
    secrets, secret = collect(parts, read_secret)
    meant = tuple(problem for check in _CHECKS for problem in check(parts))
    filed = tuple(checks_tls.files(parts, look))
    # A probe set with a flaw has it for every backend that uses it: say it once.
    problems = tuple(dict.fromkeys(textual + shapely + secret + meant + filed))
    if problems:
        raise ConfigError(source, problems)
    return build(parts, secrets)


def _unreadable(problem: str) -> Problem:
    return Problem(path="(file)", found="no configuration", problem=problem, remedy="name a readable YAML file")
