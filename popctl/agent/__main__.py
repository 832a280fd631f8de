"""`python -m popctl.agent CONFIG`: what `popctl agent` starts."""

import sys
from pathlib import Path

from popctl.agent.main import run

if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - program and one argument
        sys.exit("usage: python -m popctl.agent CONFIG")
    sys.exit(run(Path(sys.argv[1])))
