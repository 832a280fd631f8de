"""The daemons of a PoP and its clients inside the guest, with kernel ESP.

Every client signs on with IKEv1 main mode and a PSK, transport mode, L2TP by xl2tpd, PPP by pppd, MS-CHAPv2.

Who runs first. The whole PoP shares the guest's one processor. The side that starts a quick mode uses the new ESP SA
from the moment it sends the third message; the other side has that SA only once it has read this message (RFC 2409
section 5.5; strongSwan has no commit bit). On hosts of their own that is far below a millisecond. Here a ping that runs
in between makes it up to 100 ms, and its packet meets an SA that is not complete (`XfrmAcquireError` of the receiver).
So IKE daemons and the network's soft interrupts have real-time priority: a ping never runs between the two messages.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from popctl.core.missteer import follow
from popctl.lb.sas import walk
from popctl.model.balancer import Tables
from popctl.model.missteer import History, Split
from popctl.model.pop import ViciEndpoint
from popctl.wire.spi import Identity, label
from popctl.wire.strongswan_conf import charon_section
from tests.balancers import PLAN, POP, VIP4, draining
from tests.eventually import eventually
from tests.kernel.guest_hand import TWO, put_in_force
from tests.kernel.guest_net import BACKENDS, CLIENTS, build, counters, network_first
from tests.kernel.guest_ping import Pings
from tests.peers.daemon import Daemon
from tests.peers.lb_net import Net
from tests.peers.strongswan import StrongSwan

HOME = 0
OTHER = 1
_ROOT = Path(__file__).resolve().parents[2]
_CHILD = {"mode": "transport", "esp_proposals": ["aes128-sha256"], "rekey_time": "1h"}
_COMMON = {"version": "1", "proposals": ["aes128-sha256-modp2048"], "rekey_time": "4h", "dpd_delay": "0", "encap": "no"}
_PPP_BOTH = "noccp\nnovj\nmtu 1400\nmru 1400\nnodefaultroute\nnoipv6\nrefuse-eap\nrefuse-pap\n"
_IKE_PRIORITY = 10


def _server() -> dict[str, dict[str, Any]]:
    child = {**_CHILD, "local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp]"]}
    ends = {"local_addrs": [str(VIP4)], "local-1": {"auth": "psk", "id": str(VIP4)}, "remote-1": {"auth": "psk"}}
    return {"l2tp": {**_COMMON, **ends, "children": {"l2tp": child}}}


def _client() -> dict[str, dict[str, Any]]:
    child = {**_CHILD, "local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp/1701]"]}
    ends = {"remote_addrs": [str(VIP4)], "local-1": {"auth": "psk"}, "remote-1": {"auth": "psk", "id": str(VIP4)}}
    return {"l2tp": {**_COMMON, **ends, "children": {"l2tp": child}}}


class PromptStrongSwan(StrongSwan):
    """A charon that runs before all pings; see the module."""

    def start(self) -> None:
        """Start, and raise all threads, of which charon makes no more later."""
        super().start()
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(_IKE_PRIORITY))


class L2tp(Daemon):
    """xl2tpd with a private /run and /etc/ppp, as server (`number` >= 0) or client."""

    program = "/usr/sbin/xl2tpd"

    def __init__(self, namespace: str, number: int = -1) -> None:
        super().__init__(namespace)
        (self.directory / "ppp").mkdir()
        (self.directory / "ppp" / "options").write_text("")
        (self.directory / "ppp" / "chap-secrets").write_text('"alice" * "secret" *\n')
        (self.directory / "l2tp-secrets").write_text("")
        head = f"[global]\nport = 1701\nauth file = {self.directory}/l2tp-secrets\n"
        options = f"pppoptfile = {self.directory}/ppp-options\nlength bit = yes\n"
        if number >= 0:
            head += f"listen-addr = {VIP4}\n[lns default]\nip range = 10.50.{number}.10-10.50.{number}.99\n"
            head += f"local ip = 10.50.{number}.1\nrefuse pap = yes\nrequire authentication = yes\nname = lns\n"
            ppp = "auth\nrequire-mschap-v2\nrefuse-chap\nrefuse-mschap\nlcp-echo-interval 30\nlcp-echo-failure 4\n"
        else:
            head += f"[lac vpn]\nlns = {VIP4}\nrequire authentication = no\n"
            ppp = "noauth\nname alice\npassword secret\nipcp-accept-local\nipcp-accept-remote\n"
        (self.directory / "xl2tpd.conf").write_text(head + options)
        (self.directory / "ppp-options").write_text(ppp + _PPP_BOTH)

    def start(self) -> None:
        """Start and wait until it takes commands."""
        d = self.directory
        command = f"exec {self.program} -D -c {d}/xl2tpd.conf -p {d}/pid -C {d}/control -s {d}/l2tp-secrets"
        private = f"mount -t tmpfs run /run; mkdir -p /run/xl2tpd /run/lock; mount --bind {d}/ppp /etc/ppp; {command}"
        self.spawn(["sh", "-c", private])
        eventually((d / "control").exists, within_s=20)

    def dial(self) -> None:
        """Open the tunnel and the session."""
        (self.directory / "control").write_text("c vpn\n")

    def hang_up(self) -> None:
        """Close both; return when the command was read, for two in a row are taken for one."""
        before = len(self.log())
        (self.directory / "control").write_text("d vpn\n")
        eventually(lambda: len(self.log()) > before)


class Pop:
    """The PoP and its two clients."""

    def __init__(self, net: Net, stack: ExitStack) -> None:
        self.net = net
        network_first()
        build(net)
        self.install(TWO)
        self.history = History()
        self.looked_s = 0.0
        self.backends = [stack.enter_context(self._backend(b)) for b in (HOME, OTHER)]
        self.clients = {c: stack.enter_context(self._client(c)) for c in CLIENTS}
        self.lnss = [stack.enter_context(L2tp(net.name(name), number)) for number, name in enumerate(BACKENDS)]
        self.lacs = {c: stack.enter_context(L2tp(net.name(c))) for c in CLIENTS}

    def _backend(self, number: int) -> StrongSwan:
        name = self.net.name(BACKENDS[number])
        return PromptStrongSwan(name, connections=_server(), more=charon_section(PLAN, Identity(POP, number)))

    def _client(self, name: str) -> StrongSwan:
        # Without keepalives: one that comes when nobody is remembered is dropped, rightly, and would look like a loss.
        return PromptStrongSwan(self.net.name(name), connections=_client(), settings={"keep_alive": "0"})

    # The balancer.

    def install(self, state: Tables) -> None:
        """Change the balancer to these tables, keeping what it learnt."""
        put_in_force(self.net.name("lb"), state)

    def hand(self, stack: ExitStack) -> subprocess.Popen[str]:
        """Start the balancer's hand as a process, which keeps the home draining."""
        words = [sys.executable, "-m", "tests.kernel.guest_hand", self.net.name("lb"), str(HOME)]
        process = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=_ROOT))
        stack.callback(process.kill)
        return process

    def memory(self, name: str) -> set[tuple[str, str]]:
        """Return who is remembered where, without the times: keys and marks of one map."""
        text = self.net.inside("lb", "nft", "list", "map", "inet", "popctl", f"vpn.v4.{name}")
        return set(re.findall(r"(\S[^,{}]*?) (?:timeout \S+ )?expires \S+ : (\S+)", text))

    def forget(self) -> None:
        """Lose all that the balancer learnt."""
        for name in ("by-address", "by-port"):
            self.net.inside("lb", "nft", "flush", "map", "inet", "popctl", f"vpn.v4.{name}")

    # What clients do.

    def dial(self, name: str) -> int:
        """Sign a client on; return its backend."""
        with self.clients[name].vici() as session:
            list(session.initiate({"ike": "l2tp", "child": "l2tp", "timeout": "10000"}))
        lac = self.lacs[name]
        lac.dial()
        # One in a hundred first calls got no PPP link within 30 s, on a machine with five times the work it can do.
        with suppress(AssertionError):
            return self._home(name)
        lac.hang_up()
        lac.dial()
        try:
            return self._home(name)
        except AssertionError as error:
            for daemon in (lac, *self.lnss):
                error.add_note(f"--- {daemon.namespace}\n{daemon.log()[-2000:]}")
            raise

    def _home(self, name: str) -> int:
        return int(eventually(lambda: self.peer(name), within_s=20, every_s=0.1).split(".")[2])

    def sign_on(self) -> None:
        """Bring all clients up on one backend, so that anything at the other one is astray."""
        self.install(draining(TWO, OTHER))
        assert {self.dial(c) for c in CLIENTS} == {HOME}
        self.install(TWO)

    def peer(self, name: str) -> str:
        """Return the address at the far end of a client's PPP link; empty without one."""
        found = re.search(r"ppp\S*\s+inet \S+ peer ([0-9.]+)", self.net.ip(name, "-4 -o addr show"))
        return found[1] if found else ""

    @contextmanager
    def pinging(self) -> Iterator[dict[str, Pings]]:
        """Ping through all sessions at a fixed pace, from before the body until enough answers after it."""
        with ExitStack() as stack:
            running = {c: stack.enter_context(Pings(self.net.name(c), self.peer(c))) for c in CLIENTS}
            yield running
            for pings in running.values():
                pings.finish()

    def rekey(self, where: StrongSwan, what: Mapping[str, str]) -> None:
        """Let one side start quick modes or re-authentications, and wait until all of them are done there."""
        wanted = 1 if where in self.clients.values() else len(CLIENTS)
        before = _spis(where)
        with where.vici() as session:
            session.rekey(dict(what))
        eventually(lambda: len(_spis(where) - before) >= wanted, within_s=20)

    # What can be seen.

    def homes(self, name: str) -> set[int]:
        """Return the backends named by the labels of a client's IKE SAs."""
        spis = [spi for sa in self.clients[name].sas() for spi in (sa["responder-spi"], sa["initiator-spi"])]
        known = {f"{label(PLAN, Identity(POP, b)):08x}".encode(): b for b in (HOME, OTHER)}
        return {known[spi[:8]] for spi in spis if spi[:8] in known}

    def steered(self) -> dict[int, int]:
        """Return the balancer's packets by backend."""
        found = self._counted("to")
        return {b: sum(n for name, n in found.items() if name.startswith(f"to.{b}.")) for b in (HOME, OTHER)}

    def dropped(self) -> dict[str, int]:
        """Return what the balancer dropped, by counter, where it is not zero."""
        return self._counted("drop")

    def _counted(self, kind: str) -> dict[str, int]:
        found = counters(self.net, "lb", "inet", "popctl")
        return {name: packets for name, packets in found.items() if name.startswith(f"{kind}.") and packets}

    def wire(self) -> dict[str, int]:
        """Return packets between clients and VIP: what one side sent and what the other got."""
        seen = {name: counters(self.net, name, "ip", "seen") for name in (*CLIENTS, *BACKENDS)}
        return {
            "clients sent": sum(seen[c]["to_vip"] for c in CLIENTS),
            "home got": seen[BACKENDS[HOME]]["to_vip"],
            "other got": seen[BACKENDS[OTHER]]["to_vip"],
            "home sent": seen[BACKENDS[HOME]]["from_vip"],
            "clients got": sum(seen[c]["from_vip"] for c in CLIENTS),
        }

    def refusals(self) -> dict[str, int]:
        """Return what kernels and IKE daemons refused, by host and counter, where it is not zero."""
        found = {}
        for name in (*CLIENTS, *BACKENDS):
            with self.net.thread(name) as executor:
                lines = executor.submit(Path("/proc/thread-self/net/xfrm_stat").read_text).result().splitlines()
            found |= {f"{name} {counter}": int(value) for counter, value in map(str.split, lines)}
        for name, backend in zip(BACKENDS, self.backends, strict=True):
            with backend.vici() as session:
                counted = session.get_counters()["counters"].values()
            found[f"{name} invalid-spi"] = sum(int(each.get("invalid-spi", 0)) for each in counted)
        return {name: value for name, value in found.items() if value}

    def look(self) -> tuple[Split, ...]:
        """Look at all SAs as the agent does, half a minute after the last time; return the clients it would tell."""
        self.looked_s += 30.0
        told: list[Split] = []
        for number, backend in enumerate(self.backends):
            seen = asyncio.run(walk(ViciEndpoint(path=backend.vici_path), number, None, 0)).clients
            everybody = frozenset(range(len(self.backends)))
            self.history, found = follow(self.history, number, seen, self.looked_s, working=everybody, forget_s=600.0)
            told += found
        return tuple(told)


def _spis(where: StrongSwan) -> set[bytes]:
    return {
        spi
        for sa in where.sas()
        if sa["state"] == b"ESTABLISHED"
        for spi in (sa["initiator-spi"], *(c["spi-in"] for c in sa["child-sas"].values() if c["state"] == b"INSTALLED"))
    }
