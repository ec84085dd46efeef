"""Making a replica's keys and its certificate; needed once, before the genesis is written."""

import base64
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from consensus.network.genesis import SIGNING_KEY, TRANSPORT_KEY, Member, private_pem, public_bytes, write_private


def new_member(folder: Path, name: str, host: str, port: int) -> Member:
    """Make a replica's two keys in its folder, and what the others are to know of it.

    The certificate is signed by its own key and never expires: who trusts it does so because the genesis names it.

    Raises
    ------
    InputError
        If the folder holds keys already.
    """
    signing, transport = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(transport.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(transport, None)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / SIGNING_KEY, private_pem(signing))
    write_private(folder / TRANSPORT_KEY, private_pem(transport) + certificate.public_bytes(Encoding.PEM))
    der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return Member(name, public_bytes(signing).hex(), der, host, port)
