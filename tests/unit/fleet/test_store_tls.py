"""The certificate that the agent shows to the store."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

from tests.certificates import CLIENT, Authority
from tests.eventually import eventually

_ASK = """
import ssl, sys
from pathlib import Path
from popctl.fleet.etcd import TlsFiles
try:
    TlsFiles(ca=Path(sys.argv[1]), certificate=Path(sys.argv[2]), key=Path(sys.argv[3])).context()
except ssl.SSLError:
    print("refused")
"""


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    """OpenSSL asks the terminal, past standard input: an agent started by hand would wait there for ever."""
    authority = Authority(tmp_path)
    sealed = authority.issue("pop", CLIENT, password="a password")  # noqa: S106 - of a test
    files = map(str, (authority.ca, sealed.certificate, sealed.key))
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        os.execve(sys.executable, [sys.executable, "-c", _ASK, *files], environment)  # noqa: S606 - no shell wanted
    os.set_blocking(terminal, False)
    heard = b""

    def answered() -> bool:
        nonlocal heard
        try:
            heard += os.read(terminal, 4096)
        except BlockingIOError:
            pass
        except OSError:
            return True  # the other end is closed
        return b"refused" in heard or b"pass phrase" in heard

    try:
        eventually(answered, within_s=30)
        assert heard.strip() == b"refused"
    finally:
        os.close(terminal)  # hangs up
        os.waitpid(pid, 0)
