"""The smallest agent: takes over, then announces both prefixes for ever: `python -m tests.peers.bgp_agent DIR S`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from popctl.model.pop import Lease
from tests.peers.bgp_edge import BOTH, speaking
from tests.peers.exabgp import edge_pop


async def main(run_dir: Path, lease_s: float) -> None:
    """Announce until killed."""
    async with speaking(edge_pop(run_dir, lease=Lease(duration_s=lease_s))) as spoken:
        await spoken.inherited(sessions=False)
        await spoken.speaker.set(BOTH)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
