"""Every default of the configuration, in one block. docs/configuration.md is generated from the schema that uses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

from popctl.model.capacity import GatePolicy, LoadPolicy
from popctl.model.damping import Figures
from popctl.model.load import LoadTiming
from popctl.model.probe import HALF_OPEN_S, Cadence, Thresholds

# Neighbours
BGP_PORT = 179
HOLD_TIME_S = 9
DEPREFERRED_PREPEND = 3
DEPREFERRED_MED_STEP = 100
"""Added to the MED of `normal`."""
IBGP_LOCAL_PREFERENCE = 100
"""What routers assume when none is sent; `depreferred` gets half of what `normal` has."""

# Services and backends
MINIMUM_HEALTHY = 1
WEIGHT = 100
PROFILE = "default"

# Balancer
POP_BITS = 10
BACKEND_BITS = 6
SA_BITS = 16
HASH_KEY: Final = "spi"
AFFINITY_S = 600
AFFINITY_SIZE = 65536
MARK_BASE = 0x5B000000
TABLE_BASE = 5100
RULE_PRIORITY = 5100
ICMP_COPIES_PER_S = 100
LONGEST_SA_S = 86400.0

# Probe methods
IKE_VERSION: Final = 2
IKE_PORTS: tuple[Literal[500, 4500], ...] = (500, 4500)
IKE_DEEP_PORT: Final = 500
L2TP_PORT = 1701
HTTP_STATUSES = (200,)

# Timing
WARM_UP_S = 10.0
UNKNOWN_HOLD_S = 30.0
HOLD_DOWN_S = 15.0
HOLD_DOWN_MAX_S = 600.0
FLAP_WINDOW_S = 900.0
STOP_DRAIN_S = 0.0
CONVERGENCE_S = 60.0

# Lease
LEASE_S = 3.0

# Fleet
MINIMUM_ANNOUNCING = 1
COMMON_CAUSE_SHARE = 0.2
COMMON_CAUSE_WINDOW_S = 60.0
VIEW_AGE_BOUND_S = 30.0
SETTLE_S = 12.0
PERMIT_WAIT_S = 1.0
PERMIT_VALID_S = 10.0
STANDING_SHARE = 0.5
FLEET_LEASE_S = 10.0
FLEET_REQUEST_S = 2.0
FLEET_QUIET_S = 2.0
FLEET_REFRESH_S = 10.0

# What the SPI plan must have room for, when nothing is known of the backends.
SAS_PER_BACKEND = 10000

# Load
LOAD = LoadPolicy()
GATE = GatePolicy()
LOAD_TIMING = LoadTiming()
GATE_VIEW_STALE_AFTER_S = 30.0
"""Longer than the 10 s of a simulated fleet: figures are measured every 5 s, and written no more than every 2 s."""
FLAPS = Figures()

# Paths
RELAY_SOCKET = Path("/run/popctl/relay.sock")
API_SOCKET = Path("/run/popctl/api.sock")
STATE_FILE = Path("/var/lib/popctl/state.json")
JOURNAL = Path("/var/lib/popctl/journal.jsonl")


class Pace(NamedTuple):
    """When a probe runs and how many outcomes make a verdict."""

    cadence: Cadence
    thresholds: Thresholds


class Profile(NamedTuple):
    """The paces of a profile."""

    liveness: Pace
    deep: Pace
    """For whole authentications: they cost the gateway two Diffie-Hellman operations each."""
    deep_v1: Pace
    """The same for IKEv1, where one that fails leaves something behind."""


_DEEP = Pace(
    Cadence(interval_s=30.0, jitter=0.2, timeout_s=3.0, retry_s=0.0),
    Thresholds(rise=1, fall=3, fall_refused=1, stale_after_s=120.0),
)
_DEEP_V1 = _DEEP._replace(cadence=replace(_DEEP.cadence, retry_s=HALF_OPEN_S))

PROFILES = {
    "default": Profile(
        Pace(
            Cadence(interval_s=1.0, jitter=0.2, timeout_s=0.5, retry_s=0.0),
            Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=5.0),
        ),
        _DEEP,
        _DEEP_V1,
    ),
    "fast": Profile(
        Pace(
            Cadence(interval_s=0.1, jitter=0.2, timeout_s=0.1, retry_s=0.0),
            Thresholds(rise=5, fall=3, fall_refused=1, stale_after_s=1.0),
        ),
        _DEEP,
        _DEEP_V1,
    ),
}
"""The built-in profiles. Own ones start from `default`."""
