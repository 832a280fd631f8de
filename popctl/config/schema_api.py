"""The shape of what lets engineers in from elsewhere: a TCP port behind mutual TLS, and who has which role."""

from typing import Annotated, TypeAlias

from pydantic import Field, PlainValidator

from popctl.config.fields import Address, Kind, refuse
from popctl.config.locators import AbsolutePath
from popctl.config.schema_probes import Port, Section

_SCHEMES = ("cn:", "uri:")
_MAX_CHARACTERS = 255


def _certificate_name(value: object) -> str:
    remedy = "write cn:alice for a common name, or uri:spiffe://example.net/alice for a URI"
    if not isinstance(value, str) or not value.startswith(_SCHEMES) or value in _SCHEMES:
        raise refuse("is not a name that a certificate carries", remedy)
    if len(value) > _MAX_CHARACTERS or not value.isprintable():
        raise refuse(f"is not one line of at most {_MAX_CHARACTERS} printable characters", remedy)
    return value


CertificateName: TypeAlias = Annotated[
    str, PlainValidator(_certificate_name), Kind("`cn:` and a common name, or `uri:` and a URI")
]


class Api(Section):
    """The operator API beyond this host."""

    address: Address = Field(description="Own address to listen at; not an anycast one.")
    port: Port = Field(description="TCP port.")
    certificate: AbsolutePath = Field(description="Own certificate chain (PEM), for this address or its name.")
    key: AbsolutePath = Field(description="File with its key (PEM, not encrypted); no access for other users.")
    client_ca: AbsolutePath = Field(description="Certificates (PEM) of the authority that signs those of clients.")
    operate: list[CertificateName] = Field(default=[], description="Who may ask and order.")
    read: list[CertificateName] = Field(default=[], description="Who may ask.")
