"""What is done to a cable of a running lab: unplug, plug in, lose packets, swallow everything in silence.

All of it happens by commands inside the node, so every driver has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.driver import Driver
from lab.errors import NodeError

_ALL = 10_000
"""Loss is drawn in ten-thousandths."""
_FAMILIES = ("-4", "-6")


def set_link(driver: Driver, node: str, interface: str, *, up: bool) -> None:
    """Take one end of a link down, or up again with the addresses and static routes that it had.

    The other end sees no carrier.

    Raises:
        NodeError: there is no such interface, or a command in the node failed.
    """
    _require(driver, node, interface)
    kept = f"/run/lab/{interface}.routes"
    if up:
        _run(driver, node, ["ip", "link", "set", interface, "up"])
        for line in driver.exec(node, ["cat", kept]).stdout.splitlines():
            # A route that a daemon has set meanwhile may stand in the way; then there is nothing to restore.
            driver.exec(node, ["ip", *line.split()])
        _run(driver, node, ["rm", "-f", kept])
    elif driver.exec(node, ["test", "-e", kept]).returncode != 0:
        addresses = _run(driver, node, ["ip", "-6", "-o", "address", "show", "dev", interface, "scope", "global"])
        listings = [
            (family, _run(driver, node, ["ip", family, "route", "show", "dev", interface])) for family in _FAMILIES
        ]
        lines = [
            *address_commands(addresses, interface),
            *(line for family, listing in listings for line in route_commands(family, listing, interface)),
        ]
        _run(driver, node, ["mkdir", "-p", "/run/lab"])
        _run(driver, node, ["tee", kept], stdin="\n".join(lines))
        _run(driver, node, ["ip", "link", "set", interface, "down"])


def address_commands(listing: str, interface: str) -> Iterator[str]:
    """Turn the output of `ip -6 -o address show` into arguments of `ip`; IPv4 addresses stay with the link."""
    for line in listing.splitlines():
        words = line.split()
        if "inet6" in words:
            yield f"-6 address replace {words[words.index('inet6') + 1]} dev {interface} nodad"


def route_commands(family: str, listing: str, interface: str) -> Iterator[str]:
    """Turn the output of `ip route show` into arguments of `ip` that bring the static routes back.

    Those of the kernel and of a routing daemon come back by themselves.
    """
    for line in listing.splitlines():
        words = line.split()
        if words and not {"kernel", "bird", "ra"} & set(words):
            yield " ".join([family, "route", "replace", *_accepted(words), "dev", interface])


def _accepted(words: Sequence[str]) -> Iterator[str]:
    """Drop what `ip route show` prints and `ip route replace` does not take."""
    before = ""
    for word in words:
        if word not in {"linkdown", "dead", "pref"} and before != "pref":
            yield word
        before = word


def set_loss(driver: Driver, node: str, interface: str, *, loss: float) -> None:
    """Lose this share (0 to 1) of the packets that arrive at an interface; 0 heals it, 1 is a silent cut.

    The receiver drops: a sender that dropped its own packets would notice and try again.

    Raises:
        NodeError: there is no such interface, or nft refused.
    """
    _require(driver, node, interface)
    _run(driver, node, ["nft", "-f", "-"], stdin=loss_rules(interface, loss))


def loss_rules(interface: str, loss: float) -> str:
    """Return the nft script that replaces whatever loss an interface had."""
    table = f"netdev lab_loss_{interface.replace('.', '_').replace('-', '_')}"
    # Adding first makes the deletion possible whether or not the table exists.
    script = f"add table {table}\ndelete table {table}\n"
    dropped = round(loss * _ALL)
    if dropped <= 0:
        return script
    match = "" if dropped >= _ALL else f"numgen random mod {_ALL} < {dropped} "
    return (
        f"{script}table {table} {{\n chain ingress {{\n"
        f'  type filter hook ingress device "{interface}" priority -500; policy accept;\n'
        f"  {match}counter drop\n }}\n}}\n"
    )


def _require(driver: Driver, node: str, interface: str) -> None:
    if interface not in {end.interface for end in driver.plan.interfaces(node)}:
        raise NodeError(driver.plan.name, node, f"has no interface {interface}")


def _run(driver: Driver, node: str, argv: Sequence[str], *, stdin: str = "") -> str:
    done = driver.exec(node, argv, stdin=stdin)
    if done.returncode != 0:
        raise NodeError(driver.plan.name, node, f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout
