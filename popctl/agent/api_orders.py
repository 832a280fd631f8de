"""Orders of operators: checked, persisted, told to the loop, audited; in this order, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from popctl.agent import api_problems
from popctl.agent.api_interlock import Interlock
from popctl.agent.api_problems import RefusedError
from popctl.agent.api_status import Reporter
from popctl.agent.audit_log import AuditLog
from popctl.agent.durable import StateWriteError
from popctl.agent.events import IntentsChanged
from popctl.agent.intents import IntentStore, StateCorruptError
from popctl.agent.loop import Loop
from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Pop
from popctl.wire.agent_api import OrderReply
from popctl.wire.agent_order import EVERY_SERVICE, Order, early_end

DECIDED_WITHIN_S = 2.0
"""How long an answer waits for the loop; the order stands even if the loop is slower."""
EXPIRY_LOOK_S = 1.0
WRITTEN_WITHIN_S = 5.0
"""How long an order waits for the one before it: a disk that hangs must not collect requests."""

_Orders: TypeAlias = Mapping[tuple[IntentKind, str], Intent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The two clocks of the host."""

    monotonic: Callable[[], Instant]
    wall: Callable[[], float]
    """Unix time in seconds."""


class Desk:
    """Where orders are taken. Holds no orders itself: the store does."""

    def __init__(
        self, pop: Pop, loop: Loop, store: IntentStore, reporter: Reporter, clocks: Clocks, audit: AuditLog
    ) -> None:
        self._pop = pop
        self._loop = loop
        self._store = store
        self._reporter = reporter
        self._clocks = clocks
        self._interlock = Interlock(pop, loop, reporter, clocks.monotonic)
        self._one_at_a_time = asyncio.Lock()
        self._audit = audit

    async def place(self, order: Order, owner: str) -> OrderReply:
        """Take an order: replaces one for the same target.

        Raises:
            RefusedError: it is not taken; nothing was changed.
        """
        targets = self._targets(order.kind, order.target)
        async with self._turn():
            if order.kind is IntentKind.DRAIN and not order.force:
                self._interlock.drainable(order.target, self._store.intents)
            if order.refuse_new:
                self._interlock.closable(targets)
            if order.refuse_if_held and not order.force:
                self._interlock.permitted(targets)
            before = _by_target(self._store.intents)
            placed = {(order.kind, target): self._intent(order, target, owner, before) for target in targets}
            fresh = any(key not in before for key in placed)
            what = {"action": "place", "kind": order.kind, "targets": targets, "forced": order.force}
            return await self._change(owner, order.reason, {**before, **placed}, what, changed=fresh)

    async def extend(self, target: str, expires_s: float | None, reason: str, owner: str) -> OrderReply:
        """Give the withdraws for `target` that stand an end in `expires_s`; None: they stand until they are lifted.

        Who asks, and why, is for the audit file: the order remains the one that it was.

        Raises:
            RefusedError: none stands, or the end is too early; nothing was changed.
        """
        async with self._turn():
            now, unix_s = self._clocks.monotonic(), self._clocks.wall()
            before = _by_target(self._store.intents)
            standing = {key for key in _standing(before, IntentKind.WITHDRAW, target) if now < before[key].expires}
            if not standing:
                # Says whether there is such a service at all.
                self._targets(IntentKind.WITHDRAW, target)
                raise api_problems.no_order(IntentKind.WITHDRAW, target)
            if expires_s is not None and any(now + expires_s <= before[key].drain_until for key in standing):
                raise api_problems.bad_request((early_end(expires_s, "?expires_s"),))
            end = (NEVER, None) if expires_s is None else (now + expires_s, unix_s + expires_s)
            moved = {key: replace(before[key], expires=end[0], expires_unix_s=end[1]) for key in standing}
            targets = tuple(sorted(name for _, name in standing))
            what = {"action": "extend", "kind": IntentKind.WITHDRAW, "targets": targets}
            return await self._change(owner, reason, {**before, **moved}, what, changed=True)

    async def lift(self, kind: IntentKind, target: str, reason: str, owner: str) -> OrderReply:
        """Lift the order for `target`, if there is one; also for what the configuration does not have any more.

        Raises:
            RefusedError: it still stands, or nothing of that name is known; nothing was changed.
        """
        async with self._turn():
            before = _by_target(self._store.intents)
            lifted = _standing(before, kind, target) or {(kind, name) for name in self._targets(kind, target)}
            after = {key: intent for key, intent in before.items() if key not in lifted}
            what = {"action": "lift", "kind": kind, "targets": tuple(sorted(name for _, name in lifted))}
            if self._store.corrupt is None and len(after) == len(before):
                plain = _plain(before.values())
                audited = await self._audit.order(owner, reason, {**what, "before": plain, "after": plain})
                return self._reply(changed=False, decided=True, audited=audited)
            return await self._change(owner, reason, after, what, changed=True)

    async def reset(self, reason: str, owner: str) -> OrderReply:
        """Begin anew with no orders after the state file turned out to be corrupt; a copy of it is kept.

        Raises:
            RefusedError: the file is sound, or cannot be replaced.
        """
        async with self._turn():
            corrupt = self._store.corrupt
            if corrupt is None:
                raise api_problems.state_sound()
            try:
                kept = await asyncio.to_thread(self._store.reset, unix_s=self._clocks.wall())
            except StateWriteError as error:
                raise api_problems.not_written(str(error)) from error
            what = {"action": "reset", "was_corrupt": corrupt.problem, "kept_as": None if kept is None else str(kept)}
            return await self._tell((), owner, reason, what, changed=True)

    async def expire(self) -> None:
        """Take orders that have expired off the books, until cancelled."""
        while True:
            with suppress(RefusedError):
                await self.forget_expired()
            await asyncio.sleep(EXPIRY_LOOK_S)

    async def forget_expired(self) -> None:
        """Take orders that have expired off the books. They meant nothing any more before that.

        Raises:
            RefusedError: the state file cannot be written; they mean nothing all the same.
        """
        now = self._clocks.monotonic()
        due = [intent for intent in self._store.intents if intent.expires <= now]
        if due and self._store.corrupt is None:
            await self._forget(due)

    async def _forget(self, due: list[Intent]) -> None:
        async with self._turn():
            after = {key: one for key, one in _by_target(self._store.intents).items() if one not in due}
            what = {"action": "expire", "kind": IntentKind.WITHDRAW, "targets": tuple(one.target for one in due)}
            await self._change("popctl", "the order has expired", after, what, changed=True)

    async def _change(
        self, owner: str, reason: str, after: _Orders, what: dict[str, Any], *, changed: bool
    ) -> OrderReply:
        intents = tuple(after.values())
        before = self._store.intents
        try:
            # Off the event loop: a slow disk must not cost the lease.
            await asyncio.to_thread(self._store.save, intents)
        except StateCorruptError as error:
            raise api_problems.state_corrupt(str(error)) from error
        except StateWriteError as error:
            raise api_problems.not_written(str(error)) from error
        details = {**what, "before": _plain(before), "after": _plain(intents)}
        return await self._tell(intents, owner, reason, details, changed=changed)

    async def _tell(
        self, intents: tuple[Intent, ...], owner: str, reason: str, details: dict[str, Any], *, changed: bool
    ) -> OrderReply:
        self._loop.put(IntentsChanged(intents))
        audited = await self._audit.order(owner, reason, details)
        decided = await self._decided(intents)
        return self._reply(changed=changed, decided=decided, audited=audited)

    async def _decided(self, intents: tuple[Intent, ...]) -> bool:
        def is_decided(loop: Loop) -> bool:
            view = loop.world.view()
            return view.intents == intents and not view.state_corrupt

        try:
            async with asyncio.timeout(DECIDED_WITHIN_S):
                await self._loop.until(is_decided)
        except TimeoutError:
            return False
        return True

    def _reply(self, *, changed: bool, decided: bool, audited: bool) -> OrderReply:
        return OrderReply(
            changed=changed,
            decided=decided,
            audited=audited,
            intents=self._reporter.intents().intents,
            services=self._reporter.services(frozenset(service.name for service in self._pop.services)),
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                await self._one_at_a_time.acquire()
        except TimeoutError as error:
            raise api_problems.busy("the order before this one is still being written; nothing was changed") from error
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def _targets(self, kind: IntentKind, target: str) -> tuple[str, ...]:
        if kind is IntentKind.DRAIN:
            known = tuple(backend.name for backend in self._pop.backends.values())
            noun = "backend"
        else:
            known = tuple(service.name for service in self._pop.services)
            noun = "service"
            if target == EVERY_SERVICE:
                return known
        if target not in known:
            raise api_problems.unknown_target(noun, target, known)
        return (target,)

    def _intent(self, order: Order, target: str, owner: str, before: _Orders) -> Intent:
        now, unix_s = self._clocks.monotonic(), self._clocks.wall()
        drain_s, drain_until = order.drain_s, now + order.drain_s if order.drain_s else 0.0
        standing = before.get((order.kind, target))
        if standing is not None and order.kind is IntentKind.WITHDRAW and now < standing.expires:
            # A second order never brings a service back for another drain, nor makes the running one longer. What has
            # been drained by then stays drained: the clock of the drain goes on, and is cut short at most.
            spared_s = max(standing.drain_until - (now + order.drain_s), 0.0)
            drain_s, drain_until = max(standing.drain_s - spared_s, 0.0), standing.drain_until - spared_s
            unix_s = standing.created_unix_s
        return Intent(
            kind=order.kind,
            target=target,
            reason=order.reason,
            owner=owner,
            created_unix_s=unix_s,
            drain_s=drain_s,
            drain_until=drain_until,
            then=order.then,
            expires_unix_s=None if order.expires_s is None else self._clocks.wall() + order.expires_s,
            expires=NEVER if order.expires_s is None else now + order.expires_s,
            forced=order.force and order.kind is IntentKind.WITHDRAW,
            refuse_new=order.refuse_new,
        )


def _by_target(intents: Iterable[Intent]) -> dict[tuple[IntentKind, str], Intent]:
    return {(intent.kind, intent.target): intent for intent in intents}


def _standing(orders: _Orders, kind: IntentKind, target: str) -> set[tuple[IntentKind, str]]:
    every = kind is IntentKind.WITHDRAW and target == EVERY_SERVICE
    return {key for key in orders if key[0] is kind and (every or key[1] == target)}


def _plain(intents: Iterable[Intent]) -> list[dict[str, object]]:
    keys = (
        "kind",
        "target",
        "reason",
        "owner",
        "created_unix_s",
        "drain_s",
        "then",
        "expires_unix_s",
        "forced",
        "refuse_new",
    )
    enums = ("kind", "then")
    return [
        {key: getattr(intent, key) for key in keys} | {key: getattr(intent, key).value for key in enums}
        for intent in intents
    ]
