"""User Mode Linux: a kernel with ESP, L2TP and PPP as a user process, for what this host's kernel cannot do.

The guest sees the host's files read-only under a memory overlay, so checkout, virtual environment and daemons are just
there. The kernel is, first that exists: $POPCTL_UML_KERNEL; the one that `make kernel` built into the cache; a packed
one beside the checkout, unpacked into the cache.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "packaging" / "uml" / "kernel.config"
PACKED = ROOT.parent / "shared" / "data" / "umlx-linux.xz"
INIT = Path(__file__).with_name("umlinit")
_MEMORY = "768M"


def kernel() -> Path | None:
    """Return a kernel to boot, or None."""
    named = os.environ.get("POPCTL_UML_KERNEL")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popctl"
    built = cache / f"uml-linux-{hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:16]}"
    if built.exists():
        return built
    if not PACKED.exists():
        return None
    unpacked = cache / f"uml-linux-{PACKED.stat().st_size}"
    if not unpacked.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with lzma.open(PACKED) as packed, tempfile.NamedTemporaryFile(dir=cache, delete=False) as out:
            shutil.copyfileobj(packed, out)
        Path(out.name).chmod(0o755)
        Path(out.name).rename(unpacked)
    return unpacked


def missing() -> str:
    """Say what is missing to boot a guest here; empty when nothing is."""
    if kernel() is None:
        return "needs a User Mode Linux kernel with ESP, L2TP and nftables: `make kernel` builds one, once"
    if os.geteuid() != 0:
        return "needs root: pppd cannot be read by others"
    programs = [p for p in ("charon-systemd", "xl2tpd", "pppd", "nft", "ping", "taskset") if shutil.which(p) is None]
    return f"needs {', '.join(programs)}" if programs else ""


def run(words: list[str], *, within_s: float) -> tuple[int, str]:
    """Run a command in a fresh guest and return its exit code (125: the guest gave none) and what it said."""
    linux = kernel()
    assert linux is not None
    job = Path(tempfile.mkdtemp(prefix="uml-"))
    try:
        command = f"cd {shlex.quote(str(ROOT))} && {shlex.join(words)} > /vm/out 2>&1"
        (job / "cmd").write_text(command)
        arguments = [f"mem={_MEMORY}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"]
        arguments += ["con=null", "con0=null,fd:1", "quiet", f"umljob={job}"]
        # Pinned, because a guest that moves between processors is three times slower.
        with (job / "console").open("wb") as console:
            process = subprocess.Popen(
                ["taskset", "-c", str(max(os.sched_getaffinity(0))), str(linux), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(job)},
                start_new_session=True,
            )
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        code = (job / "rc").read_text().strip() if (job / "rc").exists() else "125"
        text = "".join((job / name).read_text(errors="replace") for name in ("out", "console") if (job / name).exists())
        return int(code), text
    finally:
        shutil.rmtree(job, ignore_errors=True)


def run_tests(file: str, names: list[str], *, within_s: float) -> str:
    """Run test functions of a guest file in one guest, and return pytest's own words, one line per test."""
    options = ["-v", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout", "180"]
    words = [sys.executable, "-m", "pytest", *options, *(f"tests/kernel/{file}::{name}" for name in names)]
    return run(words, within_s=within_s)[1]
