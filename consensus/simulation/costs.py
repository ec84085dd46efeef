"""What a replica's processor takes for its work: measured primitives, kept in this one place.

The figures were measured on one core of a 2-core AMD EPYC virtual machine with Python 3.11, `cryptography` 50.0.2 and
blspy 2.0.3: those of signatures, hashing and coding by ``python -m benchmarks.signatures``, which compares them with
this file, as this project calls the libraries (BLS signatures are decoded from bytes before they are added). An IoT
profile takes 20 times as long for everything.
"""

from dataclasses import dataclass, replace

from shards.errors import InputError

MEGA = 1e6


@dataclass(frozen=True)
class Signatures:
    """What one signature scheme takes, in seconds, and how long its signatures are, in bytes.

    Attributes
    ----------
    name : str
        ``ed25519``, ``bls``, ``mac`` or ``none``.
    sign_s, verify_s : float
        One signature.
    combine_s : float
        Each part that goes into a bundle.
    bundle_s, signer_s : float
        Checking a bundle: once, and for every signer in it.
    length : int
        Bytes of one signature on the wire.
    sums : bool
        Whether a bundle is one signature whatever the number of signers (BLS), or their list.
    """

    name: str
    sign_s: float
    verify_s: float
    combine_s: float
    bundle_s: float
    signer_s: float
    length: int
    sums: bool = False

    def combine(self, parts: int) -> float:
        """Seconds to put `parts` signatures or bundles into one bundle."""
        return self.combine_s * parts

    def verify_all(self, signers: int) -> float:
        """Seconds to check a bundle of `signers` signatures of one statement."""
        return self.bundle_s + self.signer_s * signers

    def bundle_length(self, signers: int) -> int:
        """Bytes of a bundle's combined signature, without its bit set."""
        return self.length if self.sums else self.length * signers


@dataclass(frozen=True)
class Costs:
    """Seconds of one core for every primitive that a replica uses.

    Attributes
    ----------
    profile : str
        Name, shown beside figures.
    ed25519_sign, ed25519_verify : float
        One signature.
    mac : float
        One HMAC-SHA256 over a vote, made or checked.
    bls_sign, bls_verify : float
        One signature of the minimal-public-key variant (signatures in G2).
    bls_combine : float
        Decoding one signature and adding it to a sum: 2.2 ms for 67.
    bls_bundle, bls_signer : float
        ``fast_aggregate_verify``: 1.29 ms at 67 signers, 1.85 ms at 667.
    hash_mb : float
        SHA-256 of a megabyte (10**6 bytes).
    message : float
        Sending or receiving one message of asyncio streams over TLS: 145,000 a second one way.
    cipher_mb : float
        AES-128-GCM of a megabyte, sending or receiving.
    field_mb : float
        Erasure coding a megabyte, per coded chunk beyond the plain ones: 0.10 ms to encode, 0.15 to rebuild.
    """

    profile: str = "server"
    ed25519_sign: float = 32e-6
    ed25519_verify: float = 103e-6
    mac: float = 1.65e-6
    bls_sign: float = 364e-6
    bls_verify: float = 1.23e-3
    bls_combine: float = 34e-6
    bls_bundle: float = 1.23e-3
    bls_signer: float = 0.94e-6
    hash_mb: float = 0.55e-3
    message: float = 1 / 145_000
    cipher_mb: float = 0.09e-3
    field_mb: float = 0.12e-3

    def slower(self, factor: float, profile: str) -> "Costs":
        """Return the costs of a processor that takes `factor` times as long for everything."""
        seconds = {name: value * factor for name, value in vars(self).items() if isinstance(value, float)}
        return replace(self, profile=profile, **seconds)

    def signatures(self, scheme: str, n: int) -> Signatures:
        """Return what a scheme takes among `n` replicas.

        A MAC convinces one receiver only, so that a vote takes one for each of the n-1 others and none can be
        passed on. ``none`` costs nothing.

        Raises
        ------
        InputError
            For a scheme that is not known.
        """
        if scheme == "ed25519":
            return Signatures(scheme, self.ed25519_sign, self.ed25519_verify, 0.0, 0.0, self.ed25519_verify, 64)
        if scheme == "bls":
            return Signatures(
                scheme, self.bls_sign, self.bls_verify, self.bls_combine, self.bls_bundle, self.bls_signer, 96, True
            )
        if scheme == "mac":
            return Signatures(scheme, self.mac * (n - 1), self.mac, 0.0, 0.0, self.mac, 32)
        if scheme == "none":
            return Signatures(scheme, 0.0, 0.0, 0.0, 0.0, 0.0, 4)
        raise InputError(f"signature scheme {scheme!r}: not known; use ed25519, bls, mac or none")

    def transfer(self, size: int) -> float:
        """Seconds to send or to receive one message of `size` bytes."""
        return self.message + self.cipher_mb * size / MEGA

    def hash(self, size: int) -> float:
        """Seconds to hash `size` bytes."""
        return self.hash_mb * size / MEGA

    def encode(self, size: int, needed: int, chunks: int) -> float:
        """Seconds to cut `size` bytes into `needed` pieces and add ``chunks - needed`` coded ones."""
        return self.field_mb * size * (chunks - needed) / MEGA

    def rebuild(self, size: int, missing: int) -> float:
        """Seconds to rebuild `size` bytes of which `missing` plain pieces must be computed from coded ones."""
        return self.field_mb * size * missing / MEGA


SERVER = Costs()
IOT = SERVER.slower(20, "iot")
FREE = SERVER.slower(0, "free")


def costs(profile: str) -> Costs:
    """Find a profile by its name.

    Raises
    ------
    InputError
        For a profile that is not known.
    """
    known = {value.profile: value for value in (SERVER, IOT, FREE)}
    if profile not in known:
        raise InputError(f"processor profile {profile!r}: not known; use {', '.join(known)}")
    return known[profile]
