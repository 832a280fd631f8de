"""Why the API says no: one exception that carries the whole answer."""

from __future__ import annotations

from collections.abc import Iterable

from popctl.wire.agent_api import FieldProblem, Problem

BAD_REQUEST = 400
NOT_FOUND = 404
CONFLICT = 409
TOO_LARGE = 413
TOO_MANY = 429
OUR_FAULT = 500
UNAVAILABLE = 503


class RefusedError(Exception):
    """A request is not done, and nothing was changed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.detail)
        self.problem = problem


def bad_request(problems: tuple[FieldProblem, ...]) -> RefusedError:
    """The request cannot be read as what it should be."""
    detail = "; ".join(str(problem) for problem in problems)
    return RefusedError(
        Problem(status=BAD_REQUEST, code="bad-request", title="The request is wrong", detail=detail, problems=problems)
    )


def unknown_target(kind: str, found: str, known: Iterable[str]) -> RefusedError:
    """Nothing of this name is configured."""
    names = tuple(sorted(known))
    detail = f"no {kind} {found!r} in this PoP; there is: {', '.join(names)}"
    return RefusedError(
        Problem(status=NOT_FOUND, code="unknown-target", title=f"Unknown {kind}", detail=detail, known=names)
    )


def no_fleet() -> RefusedError:
    """This PoP is in no fleet."""
    detail = "the configuration says `fleet: none`"
    return RefusedError(Problem(status=NOT_FOUND, code="no-fleet", title="This PoP is in no fleet", detail=detail))


def interlocked(detail: str) -> RefusedError:
    """The order would take a service below its minimum."""
    return RefusedError(
        Problem(status=CONFLICT, code="interlock", title="The order would take a service out", detail=detail)
    )


def state_corrupt(detail: str) -> RefusedError:
    """The state file cannot be believed; an order on top of it would bury what it may hold."""
    remedy = "look at the file, then `popctl state reset --reason TEXT` begins anew and keeps a copy"
    return RefusedError(
        Problem(
            status=CONFLICT,
            code="state-corrupt",
            title="The state file cannot be believed",
            detail=f"{detail}; remedy: {remedy}",
        )
    )


def state_sound() -> RefusedError:
    """There is nothing to reset."""
    detail = "lift orders one by one with `popctl announce` and `popctl undrain`"
    return RefusedError(Problem(status=CONFLICT, code="state-sound", title="The state file is sound", detail=detail))


def not_written(detail: str) -> RefusedError:
    """The order could not be made to last, so it is not taken."""
    return RefusedError(
        Problem(
            status=UNAVAILABLE,
            code="not-written",
            title="The state file cannot be written",
            detail=f"{detail}; nothing was changed",
        )
    )


def busy(detail: str) -> RefusedError:
    """Too much at once; the same request may succeed later."""
    return RefusedError(Problem(status=UNAVAILABLE, code="busy", title="Too many requests at once", detail=detail))


def too_many(rate_per_s: float) -> RefusedError:
    """One user asks too often."""
    detail = f"more than {rate_per_s:.0f} requests a second from one user"
    return RefusedError(Problem(status=TOO_MANY, code="too-many", title="Too many requests", detail=detail))
