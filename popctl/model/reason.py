"""Why: the one vocabulary for outcomes, verdicts and decisions.

A member is at once a log field, a metric label, a line of `popctl why` and what a test expects.
Add a member here, and its meaning to `docs/glossary.md`; never free text.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something is the way it is."""

    # A probe passed, failed or could not tell (senses).
    ANSWERED = "answered"
    REFUSED = "refused"
    """The host said that nothing listens: ICMP port unreachable or a TCP reset."""
    TIMED_OUT = "timed-out"
    GARBAGE = "garbage"
    """Only answers that do not belong to this exchange, or cannot be read, arrived in time."""
    WRONG_ANSWER = "wrong-answer"
    """A well-formed answer that a working daemon does not give, such as NO_PROPOSAL_CHOSEN without a connection."""
    AUTHENTICATION_FAILED = "authentication-failed"
    UNREACHABLE = "unreachable"
    """The network or host is unreachable as seen from here."""
    LEAKED = "leaked"
    """The daemon opened state for a probe that must leave none."""
    EXIT_STATUS = "exit-status"
    HTTP_STATUS = "http-status"
    NO_PERMISSION = "no-permission"
    OVERLOADED = "overloaded"
    """Our own host was too late to judge: the loop lagged, or the bound on probes in flight was reached."""
    PROBE_ERROR = "probe-error"
    """The probe itself broke; says nothing about the backend."""

    # A verdict about a probe or a backend (core.health).
    NOT_YET_KNOWN = "not-yet-known"
    STALE = "stale"
    RISEN = "risen"
    FALLEN = "fallen"
    DRAINING = "draining"

    # A decision about a service (core.decide).
    HEALTHY = "healthy"
    TOO_FEW_BACKENDS = "too-few-backends"
    WARMING_UP = "warming-up"
    FLAP_HOLD_DOWN = "flap-hold-down"
    HELD_UNKNOWN = "held-unknown"
    """Too little is known to change anything: what was announced stays, what was not stays out."""
    TOO_FEW_KNOWN = "too-few-known"
    """Too few backends are known to be healthy to announce; the rest may be."""
    OPERATOR_WITHDRAW = "operator-withdraw"
    OPERATOR_DRAIN = "operator-drain"
    STATE_FILE_CORRUPT = "state-file-corrupt"
    STOPPING = "stopping"

    # Where the balancer sends a packet (core.steer, the comments and counters of wire.nft).
    NEW_SA = "new-sa"
    """A first IKE message without an affinity: by the hash of the service."""
    AFFINITY = "affinity"
    """A first IKE message of a client whose labelled packets were seen: to the backend that holds its SAs."""
    IKE_LABEL = "ike-label"
    """The backend is named by the SPI that it chose."""
    ESP_SLICE = "esp-slice"
    SOURCE_HASH = "source-hash"
    """Without a label: by the hash of the source address, or where this source went before."""
    ICMP_QUOTE = "icmp-quote"
    """An ICMP error: to the backend whose packet it quotes."""
    REPLICATED = "replicated"
    """An ICMP error that no one backend can be named for: to all, rate-limited."""
    STRAY = "stray"
    """Labelled by this plan, but for no backend of this service here."""
    UNLABELLED = "unlabelled"
    """IKE or ESP without a label where the service allows none."""
    KEEPALIVE = "keepalive"
    """A NAT keepalive of an unknown client; it carries nothing that a backend needs."""
    MALFORMED = "malformed"
    UNPROTECTED_L2TP = "unprotected-l2tp"
    NOT_SERVED = "not-served"
    """Other traffic for a VIP that the service does not forward."""
    NO_BACKEND = "no-backend"
    """No backend of the service may take something new."""
    NOT_A_VIP = "not-a-vip"
