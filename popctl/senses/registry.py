"""Which prober carries out which method. A new prober is its module and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.model.probe import Exec, Http, Icmp, IkeDeep, IkeLiveness, L2tp, Tcp
from popctl.senses.exec import ExecProber
from popctl.senses.http import HttpProber
from popctl.senses.tcp import TcpProber

if TYPE_CHECKING:
    from popctl.senses.datagram import DatagramProber
    from popctl.senses.prober import Probers


def probers(datagrams: DatagramProber) -> Probers:
    """Return the prober of every method; the four that speak in datagrams share `datagrams`."""
    return {
        IkeLiveness: datagrams,
        IkeDeep: datagrams,
        L2tp: datagrams,
        Icmp: datagrams,
        Tcp: TcpProber(),
        Http: HttpProber(),
        Exec: ExecProber(),
    }
