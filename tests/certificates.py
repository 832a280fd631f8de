"""Certificates for tests: an authority, and what it signs for servers and clients, on loopback unless told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True)
class Issued:
    """Two files."""

    certificate: Path
    key: Path


class Authority:
    """Writes all its files into one directory, which is made if need be."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = self._key.public_key()
        self._certificate = (
            _builder(subject, subject, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *usages: x509.ObjectIdentifier,
        uris: Sequence[str] = (),
        common_names: Sequence[str] | None = None,
        age: timedelta = timedelta(hours=1),
        password: str | None = None,
        address: str = "127.0.0.1",
    ) -> Issued:
        """Return certificate and key, in files called `name`, which is the common name unless others are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        common = (name,) if common_names is None else common_names
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common])
        alternatives = [x509.IPAddress(ip_address(address)), *map(x509.UniformResourceIdentifier, uris)]
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), age)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        issued = Issued(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        issued.certificate.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        sealed = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
        return issued


_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, age: timedelta = timedelta(hours=1)
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - age
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
    )
