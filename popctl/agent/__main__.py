"""`python -m popctl.agent CONFIG`: what `popctl agent` starts."""

import signal
import sys
from pathlib import Path

# First of all: a signal that arrives before the agent can obey it waits. A second reload during the start would end it.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

from popctl.agent.process import run  # noqa: E402 - see above: this takes most of the start

if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - program and one argument
        sys.exit("usage: python -m popctl.agent CONFIG")
    sys.exit(run(Path(sys.argv[1])))
