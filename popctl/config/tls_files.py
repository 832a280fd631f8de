"""Files of one end of mutual TLS, looked at before anything depends on them. Nothing here shows a content."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias


class TlsFiles(NamedTuple):
    """What one end has: who it is, the proof, and whom it believes."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFlaw:
    """One file that cannot be used."""

    key: Literal["certificate", "key", "authority"]
    problem: str
    remedy: str


FileLook: TypeAlias = Callable[[TlsFiles], Iterable[FileFlaw]]
"""Look at the files; return what is wrong with them."""


def look_away(_: TlsFiles) -> Iterable[FileFlaw]:
    """See nothing: for whoever reads a configuration and opens no connection by it."""
    return ()


def look_at_files(files: TlsFiles) -> Iterator[FileFlaw]:
    """Yield what is wrong with the files: each of its own first, then certificate and key together."""
    certificate, key, authority = files
    found = (_certificates("certificate", certificate), _key(key), _certificates("authority", authority))
    flaws = [flaw for flaw in found if flaw is not None]
    yield from flaws
    if not any(flaw.key in {"certificate", "key"} for flaw in flaws):
        yield from _pair(certificate, key)


def _certificates(key: Literal["certificate", "authority"], path: Path) -> FileFlaw | None:
    remedy = "name a readable file with certificates in PEM"
    try:
        # The library's own parser: it decides later, too.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return FileFlaw(key=key, problem="holds no certificate in PEM", remedy=remedy)
    except OSError as error:
        return FileFlaw(key=key, problem=f"cannot be read ({os.strerror(error.errno or 0)})", remedy=remedy)
    return None


def _key(path: Path) -> FileFlaw | None:
    try:
        found = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        what = f"cannot be read ({os.strerror(error.errno or 0)})"
        return FileFlaw(key="key", problem=what, remedy="create it, readable by the agent's user only")
    if not stat.S_ISREG(found.st_mode):
        return FileFlaw(key="key", problem="is not a regular file", remedy="name a file with a key in PEM")
    if found.st_mode & stat.S_IRWXO:
        what = f"is open to every user (mode {stat.S_IMODE(found.st_mode):04o})"
        return FileFlaw(key="key", problem=what, remedy=f"chmod 640 {path}")
    return None


def _pair(certificate: Path, key: Path) -> Iterator[FileFlaw]:
    try:
        # Without a password to give, OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield FileFlaw(key="key", problem="is not the key of the certificate", remedy="name the two that belong")
        else:
            remedy = "write the key in PEM, without a password"
            yield FileFlaw(key="key", problem="holds no key that can be used", remedy=remedy)
    except OSError as error:
        what = f"cannot be read ({os.strerror(error.errno or 0)})"
        yield FileFlaw(key="key", problem=what, remedy="repair it or the file system it is on")
