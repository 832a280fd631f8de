"""Exit codes of every command: one table, for scripts. docs/operations.md repeats it."""

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code says. From 64 on: the numbers of sysexits.h."""

    OK = 0
    PROBLEMS = 1
    """A check or a replay found problems, or the agent is not healthy."""
    USAGE = 2
    UNSAFE = 3
    """A plan that would overload a PoP or leave clients without one."""
    INTERLOCK = 4
    """The agent refused, because a service would lose its minimum of healthy backends."""
    NOT_FOUND = 5
    """No such service, backend, prefix or order in this PoP, or it is another PoP."""
    MISSING = 6
    """An optional part of popctl is not installed here."""
    HELD = 7
    """The fleet's guard would hold the withdraw, and it was to be ordered only if not. Nothing was changed."""
    BUSY = 8
    """The agent has too much to do, or was asked too often. The same command may succeed later."""
    DECLINED = 9
    """Whoever was asked whether to go on did not say yes. Nothing was ordered."""
    UNREADABLE = 65
    """A journal to replay is not there, or no journal: nothing was compared."""
    UNREACHABLE = 69
    """No agent answers."""
    REFUSED = 70
    """The agent refused for another reason; it says which. Or popctl has a bug, and says so."""
    STATE = 74
    """The agent cannot write its state file, or cannot believe it. Nothing was changed."""
    UNPROVEN = 75
    """Ordered, but not proven (yet). The output says what is missing."""
    PROTOCOL = 76
    """What answered does not speak this API, or is not whom it should be."""
    NO_PERMISSION = 77
    """The socket's mode, the certificate or its role does not allow it."""
    INTERRUPTED = 130
    """Ctrl-C; an order that was accepted before stands."""


MEANINGS = {
    Exit.OK: "done, and where it concerns routes: proven",
    Exit.PROBLEMS: "a check or a replay found problems, or the agent is not healthy",
    Exit.USAGE: "wrong usage",
    Exit.UNSAFE: "the plan is not safe",
    Exit.INTERLOCK: "refused: a service would lose its minimum of healthy backends",
    Exit.NOT_FOUND: "no such service, backend, prefix, order or PoP",
    Exit.MISSING: "an optional part is not installed",
    Exit.HELD: "refused: the fleet's guard would hold the withdraw",
    Exit.BUSY: "the agent has too much to do; the same command may succeed later",
    Exit.DECLINED: "asked whether to go on, and the answer was not yes; nothing was ordered",
    Exit.UNREADABLE: "a journal cannot be read",
    Exit.UNREACHABLE: "no agent answers",
    Exit.REFUSED: "the agent refused for another reason, or popctl has a bug",
    Exit.STATE: "the state file cannot be written or believed; nothing changed",
    Exit.UNPROVEN: "ordered, not proven yet",
    Exit.PROTOCOL: "what answers does not speak this API",
    Exit.NO_PERMISSION: "no permission",
    Exit.INTERRUPTED: "interrupted; an accepted order stands",
}
