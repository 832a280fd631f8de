"""The shape of probes: sets, entries, methods, pace and profiles."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

from popctl.config import defaults
from popctl.config.fields import Argument, Duration, Interval, Jitter, Label, Name
from popctl.config.locators import SecretFile, Url

Port = Annotated[int, Field(ge=1, le=65535)]
IkePort = Literal[500, 4500]
IkeVersion = Literal[1, 2]
Count = Annotated[int, Field(ge=1, le=100)]


class Section(BaseModel):
    """Base: nothing is coerced, unknown keys are refused, values do not change."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Pace(Section):
    """When a probe runs and how many outcomes make a verdict. A key that is left out keeps the profile's value."""

    interval: Interval | None = Field(default=None, description="Wait between two runs, before jitter.")
    jitter: Jitter | None = Field(default=None, description="Each wait is drawn from interval * (1 +- jitter).")
    timeout: Interval | None = Field(default=None, description="Silence for this long is a failure.")
    retry: Duration | None = Field(default=None, description="Wait after a failure while the verdict is still up.")
    rise: Count | None = Field(default=None, description="Passes in a row that make it up.")
    fall: Count | None = Field(default=None, description="Silences or wrong answers in a row that make it down.")
    fall_refused: Count | None = Field(default=None, description="Refusals in a row that make it down.")
    stale_after: Interval | None = Field(
        default=None, description="Without a pass or a failure for this long, nothing is known any more."
    )


class Profile(Pace):
    """An own profile. A key that is left out keeps the value of the built-in `default`."""

    deep: Pace = Field(default=Pace(), description="The same keys for `ike_deep`.")


class Ike(Pace):
    """IKE liveness: stateless, leaves nothing half-open. One probe per port."""

    version: IkeVersion = Field(default=defaults.IKE_VERSION, description="IKE version.")
    ports: list[IkePort] = Field(
        default=list(defaults.IKE_PORTS), min_length=1, description="UDP ports; 4500 with the non-ESP marker."
    )


class IkeDeep(Pace):
    """A whole IKE authentication with a probe identity. Runs at the `deep` pace of its version."""

    version: IkeVersion = Field(default=defaults.IKE_VERSION, description="IKE version.")
    port: IkePort = Field(default=defaults.IKE_DEEP_PORT, description="UDP port; 4500 with the non-ESP marker.")
    identity: Label = Field(description="Identity of the probe, used by nobody else.")
    remote_identity: Label | None = Field(
        default=None, description="What the gateway must prove to be; null: whoever holds the key."
    )
    psk_file: SecretFile = Field(description="File with the pre-shared key of that identity.")


class L2tp(Pace):
    """SCCRQ, SCCRP, StopCCN (RFC 2661): the control plane answers."""

    port: Port = Field(default=defaults.L2TP_PORT, description="UDP port.")
    secret_file: SecretFile | None = Field(default=None, description="File with the tunnel secret; null: none.")


class Icmp(Pace):
    """Echo request and reply."""


class Tcp(Pace):
    """A TCP connection is accepted."""

    port: Port = Field(description="TCP port.")


class Http(Pace):
    """A GET answers with an accepted status."""

    url: Url = Field(description="What to get; `{address}` stands for the backend's address, in brackets if IPv6.")
    statuses: list[Annotated[int, Field(ge=100, le=599)]] = Field(
        default=list(defaults.HTTP_STATUSES), min_length=1, description="Accepted statuses."
    )
    name: Name | None = Field(default=None, description="Name of the probe; null: `http-` and the port.")


class Exec(Pace):
    """A program exits 0. No shell."""

    argv: list[Argument] = Field(
        min_length=1, description="Absolute path and arguments; `{address}` stands for the backend's address."
    )
    name: Name | None = Field(default=None, description="Name of the probe; null: `exec-` and the program's name.")


class ProbeEntry(Section):
    """One entry of a list of probes: exactly one method."""

    ike: Ike | None = Field(default=None, description="IKE liveness, for every second.")
    ike_deep: IkeDeep | None = Field(default=None, description="A whole IKE authentication, for twice a minute.")
    l2tp: L2tp | None = Field(default=None, description="L2TP control connection.")
    icmp: Icmp | None = Field(default=None, description="Echo.")
    tcp: Tcp | None = Field(default=None, description="TCP connection.")
    http: Http | None = Field(default=None, description="HTTP status.")
    exec: Exec | None = Field(default=None, description="Exit status of a program.")


class ProbeSet(RootModel[Annotated[list[ProbeEntry], Field(min_length=1)]]):
    """A named list of probes."""

    model_config = ConfigDict(strict=True, frozen=True)


NAME_TAG, LIST_TAG = "<name>", "<list>"
"""Not valid in a key, so that they can be told from keys in the place of an error."""


def _probes_form(value: object) -> str:
    return NAME_TAG if isinstance(value, str) else LIST_TAG


Probes = Annotated[
    Annotated[Name, Tag(NAME_TAG)] | Annotated[list[ProbeEntry], Field(min_length=1), Tag(LIST_TAG)],
    Discriminator(_probes_form),
]
