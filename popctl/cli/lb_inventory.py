"""The balancer's part of an inventory file: what `popctl lb`, `backend-config` and `doctor` work from.

The agent's configuration is one; a file of its own, for a host without an agent, is another, and docs/balancer.md
describes its shape. Every problem is reported at once, with its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from popctl.cli.client import UsageError
from popctl.config import defaults, schema_balancer, schema_inventory
from popctl.config.errors import ConfigError
from popctl.config.load import parse, read
from popctl.config.schema import Document
from popctl.config.secret_files import SecretFileError, read_secret_file
from popctl.config.shape import Dissection, suggestion
from popctl.config.tables import plans
from popctl.config.tls_files import look_away
from popctl.config.yaml_text import read_tree
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
from popctl.wire.spi import Identity, free_esp, labels
from popctl.wire.spi_lint import Inventory, lint, lint_ids, lint_previous

if TYPE_CHECKING:
    from popctl.config import errors
    from popctl.config.yaml_text import Tree
    from popctl.model.pop import ViciEndpoint

_AGENTS_ALONE = frozenset(Document.model_fields) - frozenset(schema_inventory.Inventory.model_fields)
"""Keys that only the agent's configuration has."""
_STAND_IN = "unreadable"


class InventoryError(UsageError):
    """The file cannot be used; all problems at once."""

    located = True

    def __init__(self, source: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerInventory:
    """One PoP's balancer as described."""

    plans: tuple[SpiPlan, ...]
    """In force together, newest first."""
    pop: int
    tables: Tables
    ids: Mapping[str, int]
    """Backend name -> id."""
    unlabelled: frozenset[str] = frozenset()
    """Names of backends whose SPIs follow no plan."""
    name: str | None = None
    """Of the PoP; None: a balancer's own file does not say."""
    endpoints: Mapping[str, ViciEndpoint] = field(default_factory=dict)
    """Of the backends whose daemon can be asked, by name; a file of its own has none."""
    longest_sa_s: float | None = None
    """How long an id rests; None where nobody keeps a record of ids."""

    @property
    def plan(self) -> SpiPlan:
        """Return the plan that backends are to follow."""
        return self.plans[0]

    @property
    def site(self) -> Inventory:
        """Return what other PoPs and balancers must agree with."""
        names = {Identity(self.pop, number): name for name, number in self.ids.items()}
        return Inventory(plan=self.plan, previous=self.plans[1:], names=names)


def load(path: Path) -> BalancerInventory:
    """Read an inventory file.

    Raises:
        InventoryError: with every problem found; also when the file itself cannot be read.
    """
    try:
        text = read(path)
        tree, textual = read_tree(text, str(path))
        if isinstance(tree, dict) and not _AGENTS_ALONE.isdisjoint(tree):
            return _of_agent(path, text)
    except ConfigError as error:
        raise InventoryError(path, tuple(map(_told, error.problems))) from error
    return _of_its_own(path, tree, textual)


def _told(problem: errors.Problem) -> Problem:
    return Problem(key=problem.path, text=f"found {problem.found}: {problem.problem}", remedy=problem.remedy)


def _of_agent(path: Path, text: str) -> BalancerInventory:
    """Read the agent's own configuration: the same plan, services and rows. Raises `ConfigError` too."""
    pop = parse(text, str(path), read_secret=_secret_or_stand_in, look=look_away)
    if pop.tables is None or not pop.spi_plans:
        missing = "services" if pop.tables is None else "spi_plan"
        what = "no service has a balancer" if pop.tables is None else "there is no plan, so backends have no labels"
        raise InventoryError(path, (Problem(key=missing, text=what, remedy="see docs/balancer.md"),))
    if pop.row_key is not None and pop.row_key.reveal() == _STAND_IN:
        problem = Problem(
            key="balancer.secret_file",
            text="cannot be read, and the rows follow from it",
            remedy="run as a user who may read it",
        )
        raise InventoryError(path, (problem,))
    services = whole(pop, [build(one.weights, one.seed) for one in recipes(pop)])
    tables = replace(with_services(pop.tables, services), alive=frozenset(pop.tables.backends))
    ids = {forward.name: number for number, forward in pop.tables.backends.items()}
    return BalancerInventory(
        plans=pop.spi_plans,
        pop=pop.id,
        tables=tables,
        ids=ids,
        name=pop.name,
        endpoints={one.name: one.vici for one in pop.backends.values() if one.vici is not None},
        longest_sa_s=pop.longest_sa_s,
    )


def _secret_or_stand_in(path: Path) -> str:
    """Read a secret where this user may: only the key of the rows matters here."""
    try:
        return read_secret_file(path)
    except SecretFileError:
        return _STAND_IN


def _of_its_own(path: Path, tree: Tree, textual: tuple[errors.Problem, ...]) -> BalancerInventory:
    cut = Dissection(tree, schema_inventory.Inventory)
    plan = cut.section("spi_plan", schema_balancer.SpiPlan)
    sizes = cut.section("sizes", schema_balancer.Sizes)
    pop = cut.section("pop", schema_inventory.Identity)
    backends = {part.key: part.value for part in cut.entries("backends", schema_inventory.Backend)}
    services = {part.key: part.value for part in cut.entries("services", schema_inventory.Service)}
    problems = *map(_told, (*textual, *cut.problems)), *_names(backends, services)
    if problems or plan is None or sizes is None or pop is None:
        raise InventoryError(path, problems)
    whole_file = schema_inventory.Inventory(spi_plan=plan, sizes=sizes, pop=pop, backends=backends, services=services)
    return _build(path, whole_file)


def _names(
    backends: Mapping[str, schema_inventory.Backend], services: Mapping[str, schema_inventory.Service]
) -> Iterator[Problem]:
    """Yield what backends and services say of each other that cannot be."""
    owners: dict[int, str] = {}
    for name, backend in backends.items():
        owner = owners.setdefault(backend.id, name)
        if owner != name:
            yield Problem(key=f"backends.{name}.id", text=f"{backend.id} belongs to {owner}", remedy="choose a free id")
    for name, service in services.items():
        for index, backend_name in enumerate(service.backends):
            if backend_name not in backends:
                key, remedy = f"services.{name}.backends[{index}]", suggestion(backend_name, backends, "backend")
                yield Problem(key=key, text=f"found {backend_name}: no such backend", remedy=remedy)


def _build(path: Path, described: schema_inventory.Inventory) -> BalancerInventory:
    in_force, pop, sizes = plans(described.spi_plan), described.pop.id, described.sizes
    plan = in_force[0]
    ids = {name: backend.id for name, backend in described.backends.items()}
    found = lint(
        plan,
        pops=sizes.pops or pop,
        backends_per_pop=sizes.backends_per_pop or max(ids.values()) + 1,
        sas_per_backend=sizes.sas_per_backend or defaults.SAS_PER_BACKEND,
    )
    found += lint_previous(in_force) + lint_ids(plan, pop, {number: name for name, number in ids.items()})
    if found:
        raise InventoryError(path, found)
    unlabelled = frozenset(name for name, backend in described.backends.items() if not backend.labelled)
    tables = Tables(
        services=tuple(_service(name, described, in_force) for name in described.services),
        backends={
            backend.id: Forward(name=name, ipv4=backend.address, ipv6=backend.address6)
            for name, backend in described.backends.items()
        },
        alive=frozenset(ids.values()),
    )
    found = table_problems(tables)
    if free_esp(in_force) is None:
        found += tuple(_taken(name) for name in sorted(unlabelled & _beside_labels(tables)))
    if found:
        raise InventoryError(path, found)
    return BalancerInventory(plans=in_force, pop=pop, tables=tables, ids=ids, unlabelled=unlabelled)


def _beside_labels(tables: Tables) -> frozenset[str]:
    """Return who is in a service that follows labels where it can. Spread by SPI, it is refused in any case."""
    return frozenset(
        tables.backends[backend].name
        for service in tables.services
        if service.labels.ike and service.key is not HashKey.SPI
        for backend in service.rows.members
    )


def _taken(name: str) -> Problem:
    return Problem(
        key=f"backends.{name}.labelled",
        text="is false, and the plan takes all ESP SPIs: its ESP would be taken for that of others",
        remedy="label it, or let the plan leave some: fewer bits, or an esp_base",
    )


def _service(name: str, described: schema_inventory.Inventory, in_force: tuple[SpiPlan, ...]) -> BalancedService:
    service = described.services[name]
    members, options = [described.backends[one] for one in service.backends], service.balancer
    return BalancedService(
        name=name,
        vips=tuple(service.vips),
        rows=build({one.id: one.weight for one in members}, options.seed.to_bytes(8, "big")),
        labels=labels(in_force[0], described.pop.id, [one.id for one in members if one.labelled], in_force[1:]),
        seed=options.seed & 0xFFFFFFFF,
        key=HashKey(options.key),
        affinity=Affinity(timeout_s=options.affinity.timeout_s, size=options.affinity.size),
        unlabelled=Unmatched(options.unlabelled),
        plain_l2tp=options.plain_l2tp,
        other=Unmatched(options.other),
    )
