"""A configuration that may be put in force: sound in itself, and no contradiction to what live SAs were made under."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from popctl.agent.durable import StateWriteError, replace_durably
from popctl.config.errors import ConfigError
from popctl.config.ids import followed, record_path
from popctl.config.load import parse, read
from popctl.model.pop import Pop
from popctl.wire.registry import Place, Record, encode, leftovers

_LOG = structlog.get_logger("popctl.agent")


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration and where it came from."""

    pop: Pop
    text: str
    source: Path
    record: Record | None = None
    """Who has which id from now on; None: nothing is steered by ids."""

    @classmethod
    def load(cls, source: Path) -> Configured:
        """Read and check, also against the record of ids. Raises `ConfigError` with every problem."""
        text = read(source)
        pop = parse(text, str(source))
        record, problems = followed(pop, unix_s=time.time())
        if problems:
            raise ConfigError(str(source), problems)
        return cls(pop, text, source, record)

    def remember_ids(self) -> None:
        """Keep the record of ids, before the kernel learns of them. A disk that refuses does not stop the service."""
        if self.record is None:
            return
        try:
            replace_durably(record_path(self.pop), encode(self.record))
        except StateWriteError as error:
            _LOG.error("ids not recorded: an id that is reused too early will not be noticed", problem=str(error))

    @property
    def place(self) -> Place | None:
        """Return where the balancer lives on this host; None: there is none."""
        return Place.of(self.pop.tables.marks) if self.pop.tables else None

    @property
    def leftovers(self) -> tuple[Place, ...]:
        """Return where rules and routes of an earlier configuration may still be."""
        return leftovers(self.record, self.place) if self.record else ()

    def cleaned(self) -> Configured:
        """Return the same without leftovers."""
        here = () if self.place is None else (self.place,)
        return replace(self, record=None if self.record is None else replace(self.record, marks=here))
