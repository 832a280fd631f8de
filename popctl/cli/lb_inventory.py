"""The balancer's part of an inventory file: what `popctl lb`, `backend-config` and `doctor` work from.

The agent's configuration is one; a file of its own, for a host without an agent, is another, and docs/balancer.md
describes its shape. Every problem is reported at once, with its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import yaml

from popctl.config.errors import ConfigError
from popctl.config.load import load as load_configuration
from popctl.config.secret_files import SecretFileError, read_secret_file
from popctl.config.tls_files import look_away
from popctl.core.balance import problems as table_problems
from popctl.core.rendezvous import build
from popctl.core.seeds import recipes, whole, with_services
from popctl.model.balancer import (
    Affinity,
    BalancedService,
    Forward,
    HashKey,
    Problem,
    SpiPlan,
    Tables,
    Unmatched,
)
from popctl.wire.spi import Identity, labels
from popctl.wire.spi_lint import Inventory, lint, lint_ids

_STAND_IN = "unreadable"


class InventoryError(Exception):
    """The file cannot be used; all problems at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerInventory:
    """One PoP's balancer as described."""

    plan: SpiPlan
    pop: int
    tables: Tables
    ids: Mapping[str, int]
    """Backend name -> id."""

    @property
    def site(self) -> Inventory:
        """Return what other PoPs and balancers must agree with."""
        return Inventory(plan=self.plan, names={Identity(self.pop, number): name for name, number in self.ids.items()})


def load(path: Path) -> BalancerInventory:
    """Read an inventory file.

    Raises:
        InventoryError: with every problem found.
        OSError: the file cannot be read.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _of_agent(path) if "neighbors" in document else _build(document)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        problem = Problem(key=str(path), text=f"cannot be read: {error!r}", remedy="see docs/balancer.md for its shape")
        raise InventoryError((problem,)) from error


def _of_agent(path: Path) -> BalancerInventory:
    """Read the agent's own configuration: the same plan, services and rows."""
    try:
        pop = load_configuration(path, read_secret=_secret_or_stand_in, look=look_away)
    except ConfigError as error:
        raise InventoryError(
            tuple(Problem(key=one.path, text=one.problem, remedy=one.remedy) for one in error.problems)
        ) from error
    if pop.tables is None or pop.spi_plan is None:
        missing = "services" if pop.tables is None else "spi_plan"
        text = "no service has a balancer" if pop.tables is None else "there is no plan, so backends have no labels"
        raise InventoryError((Problem(key=missing, text=text, remedy="see docs/balancer.md"),))
    if pop.row_key is not None and pop.row_key.reveal() == _STAND_IN:
        text = "cannot be read, and the rows follow from it"
        raise InventoryError((Problem(key="balancer.secret_file", text=text, remedy="run as a user who may read it"),))
    services = whole(pop, [build(one.weights, one.seed) for one in recipes(pop)])
    tables = replace(with_services(pop.tables, services), alive=frozenset(pop.tables.backends))
    ids = {forward.name: number for number, forward in pop.tables.backends.items()}
    return BalancerInventory(plan=pop.spi_plan, pop=pop.id, tables=tables, ids=ids)


def _secret_or_stand_in(path: Path) -> str:
    """Read a secret where this user may: only the key of the rows matters here."""
    try:
        return read_secret_file(path)
    except SecretFileError:
        return _STAND_IN


def _build(document: Mapping[str, Any]) -> BalancerInventory:
    plan, pop = SpiPlan(**document["spi_plan"]), int(document["pop"]["id"])
    backends = document["backends"]
    ids = {name: int(each["id"]) for name, each in backends.items()}
    sizes = document.get("sizes", {})
    found = lint(
        plan,
        pops=int(sizes.get("pops", pop)),
        backends_per_pop=int(sizes.get("backends_per_pop", max(ids.values(), default=0) + 1)),
        sas_per_backend=int(sizes.get("sas_per_backend", 10000)),
    ) + lint_ids(plan, pop, {number: name for name, number in ids.items()})
    if found:
        raise InventoryError(found)
    tables = Tables(
        services=tuple(_service(name, each, backends, plan, pop) for name, each in document["services"].items()),
        backends={ids[name]: _forward(name, each) for name, each in backends.items()},
        alive=frozenset(ids.values()),
    )
    found = table_problems(tables)
    if found:
        raise InventoryError(found)
    return BalancerInventory(plan=plan, pop=pop, tables=tables, ids=ids)


def _forward(name: str, each: Mapping[str, Any]) -> Forward:
    v4, v6 = each.get("address"), each.get("address6")
    return Forward(name=name, ipv4=IPv4Address(v4) if v4 else None, ipv6=IPv6Address(v6) if v6 else None)


def _service(
    name: str, each: Mapping[str, Any], backends: Mapping[str, Mapping[str, Any]], plan: SpiPlan, pop: int
) -> BalancedService:
    options = dict(each.get("balancer", {}))
    weights = {int(backends[b]["id"]): int(backends[b].get("weight", 64)) for b in each["backends"]}
    labelled = [int(backends[b]["id"]) for b in each["backends"] if backends[b].get("labelled", True)]
    seed = int(options.pop("seed"))
    affinity = options.pop("affinity", {})
    return BalancedService(
        name=name,
        vips=tuple(ip_address(vip) for vip in each["vips"]),
        rows=build(weights, seed.to_bytes(8, "big")),
        labels=labels(plan, pop, labelled),
        seed=seed & 0xFFFFFFFF,
        key=HashKey(options.pop("key", HashKey.SPI)),
        affinity=Affinity(**affinity),
        unlabelled=Unmatched(options.pop("unlabelled", Unmatched.SOURCE)),
        other=Unmatched(options.pop("other", Unmatched.DROP)),
        **options,
    )
