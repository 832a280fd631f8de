"""nftables through its own library and program.

Elements of sets are changed by libnftables inside this process: 0.1 ms, where starting the `nft` program takes 10 ms
and a health flap should not. Everything else goes through the program, because libnftables 1.0.x has assertions that
rules and listings can trip over, and those must not end us.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

from popctl.lb.balancer import KernelError
from popctl.model.balancer import Problem
from popctl.wire.errors import WireError
from popctl.wire.nft_text import Elements, SeenTable, parse_listing

LEAST_VERSION = (1, 0, 6)
_LIBRARY = "libnftables.so.1"
_TIMEOUT_S = 30.0


class Nft:
    """One way into nftables. Belongs to the thread that made it, and to that thread's network namespace."""

    def __init__(self) -> None:
        self._library = _load()
        self._context = self._library.nft_ctx_new(0) if self._library else None
        if self._library and self._context:
            self._library.nft_ctx_buffer_error(self._context)
            self._library.nft_ctx_buffer_output(self._context)

    def apply(self, text: str) -> None:
        """Run one transaction: all of it or nothing.

        Raises:
            KernelError: nothing was changed.
        """
        self._spawn(["-f", "-"], text)

    def change_elements(self, text: str) -> None:
        """Run one transaction of `add element` and `delete element`, fast.

        Raises:
            KernelError: nothing was changed.
        """
        if not self._library or not self._context:
            self.apply(text)
        elif self._library.nft_run_cmd_from_buffer(self._context, text.encode()) != 0:
            answer: bytes = self._library.nft_ctx_get_error_buffer(self._context)
            raise KernelError("nft", answer.decode(errors="replace"))

    def listing(self, family: str, table: str) -> SeenTable | None:
        """Read a whole table; None when there is none.

        Raises:
            KernelError: nft could not say.
        """
        try:
            answer = self._spawn(["-j", "list", "table", family, table])
        except KernelError as error:
            if "No such file" in error.answer:
                return None
            raise
        try:
            return parse_listing(answer)
        except WireError as error:
            raise KernelError("nft -j list", str(error)) from error

    def elements(self, family: str, table: str, kind: str, name: str) -> Elements:
        """Read the elements of one set or map; none when it is not there.

        Raises:
            KernelError: nft could not say.
        """
        return elements(family, table, name, kind)

    def close(self) -> None:
        """Free the library's context."""
        if self._library and self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    @staticmethod
    def _spawn(arguments: list[str], text: str = "") -> str:
        try:
            done = subprocess.run(
                ["nft", *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelError("nft", str(error)) from error
        if done.returncode != 0:
            raise KernelError(" ".join(["nft", *arguments]), done.stderr or f"exit status {done.returncode}")
        return done.stdout


def elements(family: str, table: str, name: str, kind: str = "set") -> Elements:
    """Read the elements of one set or map; none when it is not there.

    Raises:
        KernelError: nft could not say.
    """
    answer = listing_of(["list", kind, family, table, name])
    try:
        return (parse_listing(answer).sets[name].elements or {}) if answer else {}
    except (WireError, KeyError) as error:
        raise KernelError(f"nft -j list {kind}", str(error)) from error


def listing_of(words: list[str]) -> str:
    """Return the JSON that `nft -j` answers; empty when there is no such thing.

    Raises:
        KernelError: nft could not say.
    """
    try:
        return Nft._spawn(["-j", *words])  # noqa: SLF001 - this module's own
    except KernelError as error:
        if "No such file" in error.answer:
            return ""
        raise


def problems() -> tuple[Problem, ...]:
    """Say why nftables cannot be used on this host; empty when it can."""
    remedy = f"install nftables {'.'.join(map(str, LEAST_VERSION))} or newer"
    if shutil.which("nft") is None:
        return (Problem(key="balancer", text="the program nft is not installed", remedy=remedy),)
    try:
        answer = subprocess.run(["nft", "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return (Problem(key="balancer", text=f"nft does not run: {error}", remedy=remedy),)
    return version_problems(answer.stdout)


def version_problems(answer: str) -> tuple[Problem, ...]:
    """Judge the answer of `nft --version`."""
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", answer)
    if match and tuple(int(part) for part in match.groups()) >= LEAST_VERSION:
        return ()
    return (
        Problem(
            key="balancer",
            text=f"{answer.strip() or 'nft'} is too old",
            remedy=f"install nftables {'.'.join(map(str, LEAST_VERSION))} or newer",
        ),
    )


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for function in ("nft_ctx_buffer_error", "nft_ctx_buffer_output", "nft_ctx_get_error_buffer", "nft_ctx_free"):
        getattr(library, function).argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
