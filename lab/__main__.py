"""`python -m lab`: raise the lab, look at it, break it, take it down."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lab import edge, links, state
from lab.containerlab import ContainerlabDriver
from lab.driver import Driver, NodeState, NodeStatus
from lab.errors import LabError
from lab.netns import NetnsDriver
from lab.topology_file import load

TOPOLOGY = Path(__file__).resolve().parent / "anycast-vpn.clab.yml"
DRIVERS: Mapping[str, Callable[..., Driver]] = {"netns": NetnsDriver, "containerlab": ContainerlabDriver}
_PERCENT = 100.0
_INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--topology", type=Path, default=TOPOLOGY, help="containerlab topology file")
    common.add_argument("--name", help="lab name in place of the file's")
    common.add_argument("--driver", choices=sorted(DRIVERS), default="netns")
    common.add_argument("--json", action="store_true", help="machine-readable output")
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="raise the lab")
    up.add_argument("--bare", action="store_true", help="do not start the daemons of the edge hosts")
    commands.add_parser("demo", parents=[common], help="raise it, break it, watch, take it down; 0 if all held")
    commands.add_parser("down", parents=[common], help="take it down, also after a crash")
    commands.add_parser("status", parents=[common], help="tell how the nodes are")
    commands.add_parser("list", help="name the labs that are up")
    run = commands.add_parser("exec", parents=[common], help="run a program in a node")
    run.add_argument("node")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="program ...")
    for action in ("stop", "start"):
        node = commands.add_parser(action, parents=[common], help=f"{action} a node")
        node.add_argument("node")
    link = commands.add_parser("link", parents=[common], help="unplug a cable or plug it in")
    link.add_argument("node")
    link.add_argument("interface")
    link.add_argument("action", choices=["up", "down"])
    loss = commands.add_parser("loss", parents=[common], help="lose packets that arrive at an interface")
    loss.add_argument("node")
    loss.add_argument("interface")
    loss.add_argument("percent", type=float)
    return parser


def _up(driver: Driver, options: argparse.Namespace) -> int:
    begun = time.monotonic()
    driver.deploy()
    if not options.bare:
        try:
            edge.start_all(driver)
        except LabError:
            driver.destroy()
            raise
    took_s = round(time.monotonic() - begun, 2)
    _say(options, f"{driver.plan.name} is up: {len(driver.plan.nodes)} nodes in {took_s} s", {"took_s": took_s})
    return 0


def _down(driver: Driver, options: argparse.Namespace) -> int:
    begun = time.monotonic()
    driver.destroy()
    took_s = round(time.monotonic() - begun, 2)
    _say(options, f"{driver.plan.name} is down: {took_s} s", {"took_s": took_s})
    return 0


def _status(driver: Driver, options: argparse.Namespace) -> int:
    nodes = driver.inspect()
    if options.json:
        print(json.dumps(inspection(driver, nodes), indent=1))
    else:
        width = max(len(node.node) for node in nodes)
        for node in nodes:
            print(f"{node.node:{width}}  {node.state}  {_health(node) or '-'}  pid {node.pid or '-'}")
    return 0 if all(node.state is NodeState.RUNNING and node.healthy is not False for node in nodes) else 1


def inspection(driver: Driver, nodes: Sequence[NodeStatus]) -> dict[str, list[dict[str, object]]]:
    """Return the shape of `containerlab inspect --format json`, so that its readers work here too."""
    plan = driver.plan
    common = {"lab_name": plan.name, "labPath": str(plan.path), "absLabPath": str(plan.path)}
    return {
        plan.name: [
            {
                **common,
                "name": node.long_name,
                "container_id": str(node.pid or ""),
                "image": node.image,
                "kind": node.kind,
                "state": str(node.state),
                "status": _health(node),
            }
            for node in nodes
        ]
    }


def _health(node: NodeStatus) -> str:
    return {None: "", True: "healthy", False: "unhealthy"}[node.healthy]


def _exec(driver: Driver, options: argparse.Namespace) -> int:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    command = driver.exec_argv(options.node, argv or ["sh"])
    sys.stdout.flush()
    # The program takes our place, so its output, exit status and signals are ours.
    os.execvp(command[0], command)  # noqa: S606 - an argument vector is exactly what is wanted


def _stop(driver: Driver, options: argparse.Namespace) -> int:
    driver.stop(options.node)
    return 0


def _start(driver: Driver, options: argparse.Namespace) -> int:
    driver.start(options.node)
    if driver.plan.nodes[options.node].group == edge.GROUP:
        edge.start(driver, options.node)
    return 0


def _link(driver: Driver, options: argparse.Namespace) -> int:
    links.set_link(driver, options.node, options.interface, up=options.action == "up")
    return 0


def _loss(driver: Driver, options: argparse.Namespace) -> int:
    links.set_loss(driver, options.node, options.interface, loss=options.percent / _PERCENT)
    return 0


def _say(options: argparse.Namespace, text: str, facts: Mapping[str, object]) -> None:
    print(json.dumps(facts) if options.json else text)


def _demo(driver: Driver, _: argparse.Namespace) -> int:
    from lab import demo  # noqa: PLC0415 - rich is needed by no other command

    return demo.run(driver)


_COMMANDS: Mapping[str, Callable[[Driver, argparse.Namespace], int]] = {
    "up": _up,
    "demo": _demo,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "stop": _stop,
    "start": _start,
    "link": _link,
    "loss": _loss,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a failure that was explained, 2 a wrong command line, 130 an interruption."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        print("\n".join(state.names()))
        return 0
    # Being told to stop in the middle of `up` must clean up like Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        driver = DRIVERS[options.driver](load(options.topology, name=options.name))
        return _COMMANDS[options.command](driver, options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
