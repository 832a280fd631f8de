"""Stands in for an ExaBGP of some version: starts the relay, answers its handshake, prints all that the relay says.

Usage: exabgp_of_version.py VERSION PROGRAM ARGUMENT...
"""

from __future__ import annotations

import subprocess
import sys

ANSWERS = {"reset": [], "version": ["exabgp {}", "done"]}


def main() -> None:
    version, *command = sys.argv[1:]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        for line in relay.stdout:
            print(line, end="", flush=True)  # noqa: T201 - what it is for
            for answer in ANSWERS.get(line.strip(), []):
                relay.stdin.write(answer.format(version) + "\n")


if __name__ == "__main__":
    main()
