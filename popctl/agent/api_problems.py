"""Why the API says no: one exception that carries the whole answer, and the list of all that it can say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from popctl.wire.agent_api import FieldProblem, Problem

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
TOO_LARGE: Final = 413
TOO_MANY: Final = 429
OUR_FAULT: Final = 500
UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to say no."""

    status: int
    code: str
    title: str


KINDS: Final = {
    kind.code: kind
    for kind in (
        Kind(BAD_REQUEST, "bad-request", "The request is wrong"),
        Kind(BAD_REQUEST, "not-http", "The request is not HTTP, or its header is too large"),
        Kind(FORBIDDEN, "no-role", "No name of the certificate has a role here"),
        Kind(FORBIDDEN, "wrong-role", "The role does not allow this"),
        Kind(FORBIDDEN, "cross-site", "Orders are not taken from web pages"),
        Kind(NOT_FOUND, "unknown-target", "There is nothing of this name"),
        Kind(NOT_FOUND, "no-order", "No such order stands"),
        Kind(NOT_FOUND, "unknown-pop", "The request is for another PoP"),
        Kind(NOT_FOUND, "no-fleet", "This PoP is in no fleet"),
        Kind(NOT_FOUND, "not-found", "There is no such path"),
        Kind(405, "method-not-allowed", "The path has no such method"),
        Kind(CONFLICT, "interlock", "The order would take a service out"),
        Kind(CONFLICT, "held", "The fleet's guard would hold the withdraw"),
        Kind(CONFLICT, "state-corrupt", "The state file cannot be believed"),
        Kind(CONFLICT, "state-sound", "The state file is sound"),
        Kind(TOO_LARGE, "too-large", "The body is too large"),
        Kind(417, "expectation-failed", "The `Expect` of the request is not known"),
        Kind(TOO_MANY, "too-many", "Too many requests"),
        Kind(OUR_FAULT, "bug", "popctl failed; see its log"),
        Kind(UNAVAILABLE, "not-written", "The state file cannot be written"),
        Kind(UNAVAILABLE, "busy", "Too many requests at once"),
    )
}
"""By `code`. docs/api.md has the same list, and the description of the API names the ones of each operation."""


class RefusedError(Exception):
    """A request is not done, and nothing was changed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.detail)
        self.problem = problem


def problem(
    code: str, detail: str = "", *, problems: tuple[FieldProblem, ...] = (), known: tuple[str, ...] = ()
) -> Problem:
    """Return the answer that says no with `code`."""
    kind = KINDS[code]
    return Problem(
        status=kind.status, code=code, title=kind.title, detail=detail or kind.title, problems=problems, known=known
    )


def bad_request(problems: tuple[FieldProblem, ...]) -> RefusedError:
    """The request cannot be read as what it should be."""
    return RefusedError(problem("bad-request", "; ".join(str(one) for one in problems), problems=problems))


def no_role(names: Iterable[str]) -> RefusedError:
    """The certificate is good, and nobody gave it a role."""
    shown = ", ".join(names) or "no common name and no URI"
    detail = f"the caller is: {shown}; remedy: put a name of the certificate into api.read or api.operate"
    return RefusedError(problem("no-role", detail))


def wrong_role(name: str, role: str, needed: str) -> RefusedError:
    """The caller may do something, but not this."""
    return RefusedError(problem("wrong-role", f"{name} has the role {role}, this needs {needed}"))


def cross_site() -> RefusedError:
    """A browser sends this on behalf of a page, with a certificate that its user did not mean to show."""
    return RefusedError(problem("cross-site", "the request has an `Origin`; use popctl, or a client that sends none"))


def unknown_target(kind: str, found: str, known: Iterable[str]) -> RefusedError:
    """Nothing of this name is configured."""
    names = tuple(sorted(known))
    detail = f"no {kind} {found!r} in this PoP; there is: {', '.join(names)}"
    return RefusedError(problem("unknown-target", detail, known=names))


def no_order(kind: str, target: str) -> RefusedError:
    """There is nothing to change: it was never given, was lifted, or is over."""
    return RefusedError(problem("no-order", f"no {kind} of {target} stands; remedy: order it anew"))


def unknown_pop(found: str, own: str) -> RefusedError:
    """Meant for another PoP."""
    return RefusedError(problem("unknown-pop", f"this is PoP {own!r}, not {found!r}", known=(own,)))


def no_fleet() -> RefusedError:
    """This PoP is in no fleet."""
    return RefusedError(problem("no-fleet", "the configuration says `fleet: none`"))


def interlocked(detail: str) -> RefusedError:
    """The order would take a service below its minimum."""
    return RefusedError(problem("interlock", detail))


def not_closable(detail: str) -> RefusedError:
    """New SAs of a service cannot be refused."""
    one = FieldProblem(key="refuse_new", found="true", problem=detail, remedy="order it without refuse_new")
    return bad_request((one,))


def would_be_held(service: str, verdict: str) -> RefusedError:
    """The withdraw has no permit, and was ordered only in case it has."""
    detail = f"withdrawing {service} would be held at the lowest preference: {verdict}"
    return RefusedError(problem("held", f"{detail}; remedy: bring another PoP back first, or use force"))


def state_corrupt(detail: str) -> RefusedError:
    """The state file cannot be believed; an order on top of it would bury what it may hold."""
    remedy = "look at the file, then `popctl state reset --reason TEXT` begins anew and keeps a copy"
    return RefusedError(problem("state-corrupt", f"{detail}; remedy: {remedy}"))


def state_sound() -> RefusedError:
    """There is nothing to reset."""
    return RefusedError(problem("state-sound", "lift orders one by one with `popctl announce` and `popctl undrain`"))


def not_written(detail: str) -> RefusedError:
    """The order could not be made to last, so it is not taken."""
    return RefusedError(problem("not-written", f"{detail}; nothing was changed"))


def busy(detail: str) -> RefusedError:
    """Too much at once; the same request may succeed later."""
    return RefusedError(problem("busy", detail))


def too_many(rate_per_s: float) -> RefusedError:
    """One caller asks too often."""
    return RefusedError(problem("too-many", f"more than {rate_per_s:.0f} requests a second from one caller"))
