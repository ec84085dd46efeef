"""The genesis file that all replicas and clients of a chain share, and the key files that nobody shares.

A chain is named by the digest of its genesis: whoever changes a member, an address or a time starts another chain.
"""

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import Meta, Struct

from consensus.messages import DOMAIN
from consensus.pbft.config import Config, RegionMap, Timing
from consensus.protocols import find
from shards.errors import InputError

GENESIS, SIGNING_KEY, TRANSPORT_KEY, LOG = "genesis.json", "signing.pem", "transport.pem", "log.sqlite"


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """One replica, as all others know it.

    Attributes
    ----------
    name : str
        For people.
    key : str
        Its public key for votes: Ed25519, 32 bytes in hexadecimal.
    certificate : str
        Its own certificate for TLS, DER in base64. Nothing else proves who is at the other end of a connection.
    host, port : str, int
        Where it is reached.
    """

    name: Annotated[str, Meta(min_length=1)]
    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    certificate: str
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)]

    @property
    def public(self) -> bytes:
        """The public key for votes as bytes."""
        return bytes.fromhex(self.key)

    @property
    def der(self) -> bytes:
        """The certificate as bytes."""
        return base64.b64decode(self.certificate, validate=True)


class Genesis(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What a chain is.

    Attributes
    ----------
    protocol : str
        Name of the protocol; see `consensus.protocols`.
    application : str
        ``module:class`` of what is agreed about; see `consensus.machine.Application`.
    members : tuple of Member
        The replicas, in the order of their places.
    regions : tuple of tuple of int
        Who is in which region; empty for one region of all. Later members form a region of their own.
    timing : dict
        Fields of `consensus.pbft.config.Timing`, in seconds; those left out have their defaults.
    admin : str
        Public key, in hexadecimal, of the client that may change the membership; empty when nobody may.
    """

    protocol: str
    application: str
    members: Annotated[tuple[Member, ...], Meta(min_length=1)]
    regions: RegionMap = ()
    timing: dict[str, float] = {}
    admin: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""

    @cached_property
    def chain(self) -> bytes:
        """32 bytes that name the chain: the digest of the genesis as canonical JSON."""
        return hashlib.sha256(DOMAIN + b"/genesis/" + msgspec.json.encode(self, order="sorted")).digest()

    def config(self, own: int) -> Config:
        """Give what one of its replicas is told."""
        return Config(
            self.chain,
            own,
            tuple(member.public for member in self.members),
            find(self.protocol),
            self.regions_of,
            bytes.fromhex(self.admin),
            timing=Timing(**self.timing),
        )

    def regions_of(self, places: tuple[int, ...]) -> RegionMap:
        """Group the places that are taken."""
        named = {place for region in self.regions for place in region}
        groups = (*self.regions, tuple(place for place in places if place not in named))
        taken = (tuple(place for place in group if place in places) for group in groups)
        return tuple(group for group in taken if group)

    def write(self, path: Path) -> None:
        """Write it as JSON for people to read."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def read_genesis(path: Path) -> Genesis:
    """Read a genesis file.

    Raises
    ------
    InputError
        If it is missing or wrong anywhere; the line names the field.
    """
    try:
        genesis = msgspec.json.decode(path.read_bytes(), type=Genesis)
    except OSError as error:
        raise InputError(
            f"{path}: the genesis cannot be read ({error.strerror}); every replica needs a copy"
        ) from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: {error}") from error
    _check(path, genesis)
    return genesis


def _check(path: Path, genesis: Genesis) -> None:
    for place, member in enumerate(genesis.members):
        try:
            empty = not member.der
        except (binascii.Error, ValueError):
            empty = True
        if empty:
            raise InputError(f"{path}: members[{place}].certificate is not a certificate in base64")
    distinct: dict[str, Callable[[Member], object]] = {
        "name": lambda member: member.name,
        "key": lambda member: member.key,
        "certificate": lambda member: member.certificate,
        "host and port": lambda member: (member.host, member.port),
    }
    for field, value_of in distinct.items():
        seen: dict[object, int] = {}
        for place, member in enumerate(genesis.members):
            first = seen.setdefault(value_of(member), place)
            if first != place:
                raise InputError(f"{path}: members[{place}] has the {field} of members[{first}]; each needs its own")
    placed = [place for region in genesis.regions for place in region]
    if genesis.regions and sorted(placed) != list(range(len(genesis.members))):
        raise InputError(f"{path}: regions must name each place from 0 to {len(genesis.members) - 1} once")
    try:
        find(genesis.protocol)
    except InputError as error:
        raise InputError(f"{path}: protocol: {error}") from error
    try:
        Timing(**genesis.timing)
    except (TypeError, ValueError) as error:
        said = str(error).replace("Timing.__init__() got an unexpected keyword argument", "there is no")
        raise InputError(f"{path}: timing: {said}") from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read; one that is there already is not replaced.

    Raises
    ------
    InputError
        If there is one.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError(f"{path}: a key is there already; it is never replaced, so name another folder") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Encode a private key for a file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Give the 32 public bytes of a private key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key that its owner alone may read.

    Raises
    ------
    InputError
        If it is missing, open to others, or no Ed25519 key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the private key cannot be read ({error.strerror})") from error
    if mode & 0o077:
        raise InputError(f"{path}: others may read this private key (mode {mode:o}); run chmod 600 on it")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: this is not a private key in PEM form without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: an Ed25519 key is needed, not another kind")
    return key
