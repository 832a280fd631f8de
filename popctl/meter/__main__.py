"""`python -m popctl.meter`, which `popctl meter` becomes: read the command line, serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from popctl.listen.errors import ListenError
from popctl.meter.service import Settings, run
from popctl.model.listen import Endpoint, TlsEndpoint, UnixEndpoint
from popctl.model.meter import DaemonWatch
from popctl.model.pop import ViciEndpoint

_USAGE = 2
_CANNOT_LISTEN = 69
_DEFAULT_SOCKET = Path("/run/popctl/meter.sock")

meter_app = App(
    name="popctl meter",
    help="Measure this backend, watch its VPN daemons, and tell agents. Read-only.",
    version_flags=[],
)


@meter_app.default
def meter(
    *,
    socket: Path = _DEFAULT_SOCKET,
    listen: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    authority: Path | None = None,
    daemon: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    vici: str | None = None,
    l2tp: bool = False,
    xl2tpd_control: Path | None = None,
    interface: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    interval: float = 2.0,
    bulk: float = 5e6,
) -> int:
    """Serve until told to stop.

    Parameters
    ----------
    socket
        Unix socket to listen at, mode 0660; not used with --listen.
    listen
        ADDRESS:PORT to listen at instead, with mutual TLS only.
    certificate
        The server's certificate chain (PEM).
    key
        Its key (PEM).
    authority
        Certificates (PEM) that sign the agents' ones. Each agent with such a certificate may read.
    daemon
        What to watch, NAME=EXECUTABLE or NAME=EXECUTABLE,PIDFILE; may be given several times.
    vici
        Control socket of strongSwan's charon: a path, or tcp://ADDRESS:PORT.
    l2tp
        Count L2TP sessions of the kernel.
    xl2tpd_control
        xl2tpd's control fifo, asked where the kernel carries no L2TP.
    interface
        A network interface to measure; may be given several times. Without it: those with a device behind them.
    interval
        Seconds between two looks.
    bulk
        Bits per second from which a session counts as bulk.
    """
    try:
        settings = Settings(
            endpoint=_endpoint(socket, listen, certificate, key, authority),
            vici=None if vici is None else _vici(vici),
            xl2tpd_control=xl2tpd_control,
            l2tp=l2tp,
            interfaces=interface or None,
            daemons=tuple(_watch(text) for text in daemon),
            interval_s=_positive("--interval", interval),
            bulk_bit_s=_positive("--bulk", bulk),
        )
    except ValueError as error:
        sys.stderr.write(f"popctl meter: {error}\n")
        return _USAGE
    try:
        asyncio.run(_until_told(settings))
    except ListenError as error:
        sys.stderr.write(f"popctl meter: {error}\n")
        return _CANNOT_LISTEN
    return 0


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name}: {value} is not a positive number")
    return value


def _endpoint(
    path: Path, listen: str | None, certificate: Path | None, key: Path | None, authority: Path | None
) -> Endpoint:
    if listen is None:
        return UnixEndpoint(path=path)
    address, colon, port = listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and 0 <= int(port) < 2**16):
        raise ValueError(f"--listen: {listen!r} is not ADDRESS:PORT")
    if certificate is None or key is None or authority is None:
        raise ValueError("--listen needs --certificate, --key and --authority: TCP is served with mutual TLS only")
    return TlsEndpoint(
        address=ip_address(address.strip("[]")),
        port=int(port),
        certificate=certificate,
        key=key,
        authority=authority,
    )


def _vici(text: str) -> ViciEndpoint:
    if not text.startswith("tcp://"):
        return ViciEndpoint(path=Path(text.removeprefix("unix://")))
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"--vici: {text!r} is neither a path nor tcp://ADDRESS:PORT")
    return ViciEndpoint(host=str(ip_address(host.strip("[]"))), port=int(port))


def _watch(text: str) -> DaemonWatch:
    name, equals, rest = text.partition("=")
    executable, _, pid_file = rest.partition(",")
    if not (name and equals and executable):
        raise ValueError(f"--daemon: {text!r} is not NAME=EXECUTABLE or NAME=EXECUTABLE,PIDFILE")
    return DaemonWatch(name=name, executable=Path(executable), pid_file=Path(pid_file) if pid_file else None)


async def _until_told(settings: Settings) -> None:
    task = asyncio.ensure_future(run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Run the command line of this process."""
    try:
        found = meter_app(sys.argv[1:], exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return _USAGE
    return found if isinstance(found, int) else 0


if __name__ == "__main__":
    sys.exit(main())
