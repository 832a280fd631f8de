"""From a probe as configured to the conversation that carries it out: the one place that knows both."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from popctl.model.probe import IkeDeep, IkeLiveness, L2tp
from popctl.wire.ike import liveness_v1, liveness_v2
from popctl.wire.ike.deep_v1 import DeepV1
from popctl.wire.ike.deep_v2 import Credentials, DeepV2
from popctl.wire.ike.identity import parse_identity
from popctl.wire.ike.message import NAT_T_PORT
from popctl.wire.l2tp_exchange import L2tpExchange

if TYPE_CHECKING:
    from popctl.model.probe import Method
    from popctl.model.route import Address
    from popctl.wire.exchange import Entropy, Exchange

DatagramMethod: TypeAlias = IkeLiveness | IkeDeep | L2tp
"""The methods that are conversations over one UDP port and that this package carries out."""

_IKEV1 = 1


def exchange_for(method: Method, *, local: Address, remote: Address, entropy: Entropy) -> Exchange:
    """Make the conversation of one run of a probe.

    Args:
        method: what to ask. Port 4500 means IKE with the non-ESP marker; every other port IKE without.
        local: the address the probe speaks from; the identity of an IKE probe whose `identity` is empty.
        remote: the backend. Nothing depends on it today: no conversation here binds addresses into its messages.
        entropy: a source of random bytes.

    Raises:
        TypeError: the method is not one of `DatagramMethod`.
        ValueError: an identity cannot be written as IKE writes it.
    """
    del remote
    match method:
        case IkeLiveness():
            nat_t = method.port == NAT_T_PORT
            if method.version == _IKEV1:
                return liveness_v1.LivenessV1(liveness_v1.template(nat_t=nat_t), entropy)
            return liveness_v2.LivenessV2(liveness_v2.template(nat_t=nat_t), entropy)
        case IkeDeep():
            deep = DeepV1 if method.version == _IKEV1 else DeepV2
            return deep(credentials_of(method, local), entropy, nat_t=method.port == NAT_T_PORT)
        case L2tp():
            secret = None if method.secret is None else method.secret.reveal().encode()
            return L2tpExchange(entropy, secret=secret)
        case _:
            raise TypeError(f"no datagram conversation: {type(method).__name__}")


def credentials_of(method: IkeDeep, local: Address) -> Credentials:
    """Return who the probe is. Raises `ValueError` for an identity that IKE cannot carry."""
    return Credentials(
        local=parse_identity(method.identity or str(local)),
        remote=None if method.remote_identity is None else parse_identity(method.remote_identity),
        psk=method.psk.reveal().encode(),
    )
