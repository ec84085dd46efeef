"""What signatures and the other primitives of a replica take: ``python -m benchmarks.signatures``.

Processor seconds of one thread, the least of several. One phase costs a replica of `flat` a signature and a quorum of
votes, checked one by one (Ed25519) or added up and checked once (BLS); a member of a region, a signature and a
certificate.
"""

import hashlib
import hmac
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from consensus import bls, erasure, identity
from consensus.identity import Scheme
from consensus.messages import COMMIT, signers_to_bytes, statement
from consensus.quorum import Threshold
from consensus.simulation.costs import SERVER

REPLICAS = (4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 40, 64, 100, 200, 400, 1000)
CODES = ((2, 4), (6, 16), (34, 100), (67, 200), (85, 255))
MB = 10**6
_LEAST_S = 0.05  # a measurement repeats for as long
_STATEMENT = statement(bytes(32), COMMIT, 0, 1, 2, bytes(range(32)))


@dataclass(frozen=True)
class Row:
    """What one scheme takes among n replicas, in seconds; `bytes` is a certificate's signature with its bit set.

    `flat` and `member` are what one phase costs a replica of `flat`, and a member of a region.
    """

    scheme: str
    n: int
    quorum: int
    sign: float
    verify: float
    combine: float
    verify_all: float
    flat: float
    member: float
    bytes: int


def main() -> int:
    """Measure, and write the results."""
    here = machine(["fedshard", "cryptography", "blspy", "numpy"])
    most = max(REPLICAS)
    schemes: dict[str, tuple[Scheme, list[bytes]]] = {"Ed25519": _ed25519(most), "BLS": _bls(most)}
    rows = {name: [_row(name, n, *made) for n in REPLICAS] for name, made in schemes.items()}
    even = _break_even(*schemes.values())
    codes = [(t, n, *_code(t, n)) for t, n in CODES]
    at_100 = next(code for code in codes if code[:2] == (34, 100))
    primitives = _primitives(rows["BLS"], *at_100)
    bars = [
        Bar("encoding 1 MB into 100 chunks of which 34 suffice, s", at_100[2], 0.1, at_least=False),
        Bar("rebuilding it from coded chunks only, s", at_100[3], 0.1, at_least=False),
    ]
    command = "python -m benchmarks.signatures"
    text = "\n\n".join(
        [
            "# Signatures and other primitives",
            "Processor time of one thread, the least of several; q = ⌊(n+F)/2⌋+1 signers. One phase of `flat`: "
            "sign, and check a quorum of votes (Ed25519: one by one; BLS: added up, then once). A member of a "
            "region: sign, and check a certificate; its head also adds up its region's votes and the heads' bundles.",
            setting(command, here),
            table(
                ["scheme", "n", "q", "sign µs", "verify µs", "combine q, ms", "verify q, ms", "flat, ms",
                 "member, ms", "bytes"],
                [
                    [r.scheme, str(r.n), str(r.quorum), *(f"{x * 1e6:.0f}" for x in (r.sign, r.verify)),
                     *(f"{x * 1e3:.2f}" for x in (r.combine, r.verify_all, r.flat, r.member)), str(r.bytes)]
                    for pair in zip(*rows.values(), strict=True) for r in pair
                ],
            ),
            "BLS is cheaper " + "; ".join(f"{what} from **{number}** on" for what, number in even.items()) + ".",
            table(
                ["primitive", "measured", "simulator's model", "ratio"],
                [[name, _time(s), _time(model), f"{s / model:.2f}"] for name, s, model in primitives],
            ),
            table(
                ["t of n chunks, 1 MB", "encode, ms", "rebuild from coded, ms", "ms per coded MB"],
                [
                    [f"{t} of {n}", *(f"{1e3 * s:.2f}" for s in (encode, decode)), f"{1e3 * encode / (n - t):.3f}"]
                    for t, n, encode, decode in codes
                ],
            ),
            table(["bar", "measured", "limit", "result"], [bar.row() for bar in bars]),
        ]
    )  # fmt: skip
    results = {
        "command": command, **here, "break_even": even,
        "signatures": [asdict(row) for made in rows.values() for row in made],
        "primitives": {name: {"measured_s": s, "model_s": model} for name, s, model in primitives},
        "erasure_1mb": [{"t": t, "n": n, "encode_s": e, "decode_s": d} for t, n, e, d in codes],
        "bars": [bar.as_dict() for bar in bars],
    }  # fmt: skip
    save("signatures", results, text)
    return 0 if all(bar.passed for bar in bars) else 1


def _ed25519(n: int) -> tuple[Scheme, list[bytes]]:
    pairs = [identity.keypair(seed.to_bytes(32, "big")) for seed in range(n)]
    publics = [public for _, public in pairs]
    return identity.Ed25519(pairs[0][0], publics), [private.sign(_STATEMENT) for private, _ in pairs]


def _bls(n: int) -> tuple[Scheme, list[bytes]]:
    pairs = [bls.keypair(seed.to_bytes(32, "big")) for seed in range(n)]
    publics, proofs = [public for _, public in pairs], [bls.prove(private) for private, _ in pairs]
    singles = [bytes(bls.PopSchemeMPL.sign(private, _STATEMENT)) for private, _ in pairs]
    return bls.Bls(pairs[0][0], publics, proofs), singles


def _row(name: str, n: int, scheme: Scheme, signatures: list[bytes]) -> Row:
    q = Threshold(n).quorum
    parts = [(1 << signer, signatures[signer]) for signer in range(q)]
    everyone, bundle = (1 << q) - 1, scheme.combine(parts)
    assert scheme.verify_all(everyone, _STATEMENT, bundle)
    sign = _seconds(lambda: scheme.sign(_STATEMENT))
    verify = _seconds(lambda: scheme.verify(0, _STATEMENT, signatures[0]))
    combine = _seconds(lambda: scheme.combine(parts))
    verify_all = _seconds(lambda: scheme.verify_all(everyone, _STATEMENT, bundle))
    flat, member = sign + verify_all + (0 if scheme.splittable else combine), sign + verify_all
    length = len(bundle) + len(signers_to_bytes(everyone))
    return Row(name, n, q, sign, verify, combine, verify_all, flat, member, length)


def _break_even(single: tuple[Scheme, list[bytes]], summed: tuple[Scheme, list[bytes]]) -> dict[str, int]:
    """Find from where on sums are cheaper."""
    pairs = [(_row("", n, *single), _row("", n, *summed)) for n in range(4, 61)]
    return {
        "for a replica of flat, n": 1 + max(one.n for one, other in pairs if other.flat >= one.flat),
        "for a member of a region, n": 1 + max(one.n for one, other in pairs if other.member >= one.member),
        "for a certificate, signers": 1
        + max(one.quorum for one, other in pairs if other.verify_all >= one.verify_all),
    }


def _primitives(rows: list[Row], t: int, n: int, encode: float, decode: float) -> list[tuple[str, float, float]]:
    """Give name, measured seconds and what the simulator assumes."""
    data, key = random.Random(1).randbytes(MB), bytes(32)
    scheme, signatures = _ed25519(1)
    at = {row.n: row for row in rows}
    few, many = at[100], at[1000]
    signer = (many.verify_all - few.verify_all) / (many.quorum - few.quorum)
    return [
        ("Ed25519 sign", _seconds(lambda: scheme.sign(_STATEMENT)), SERVER.ed25519_sign),
        ("Ed25519 verify", _seconds(lambda: scheme.verify(0, _STATEMENT, signatures[0])), SERVER.ed25519_verify),
        ("HMAC-SHA256 of a vote", _seconds(lambda: hmac.digest(key, _STATEMENT, "sha256")), SERVER.mac),
        ("BLS sign", few.sign, SERVER.bls_sign),
        ("BLS verify", few.verify, SERVER.bls_verify),
        ("BLS combine, each part", many.combine / many.quorum, SERVER.bls_combine),
        ("BLS certificate, once", few.verify_all - signer * few.quorum, SERVER.bls_bundle),
        ("BLS certificate, each signer", signer, SERVER.bls_signer),
        ("SHA-256, each MB", _seconds(lambda: hashlib.sha256(data).digest()), SERVER.hash_mb),
        ("GF(256) encoding, each coded MB", encode / (n - t), SERVER.field_mb),
        ("GF(256) rebuilding, each missing MB", decode / t, SERVER.field_mb),
    ]


def _code(t: int, n: int) -> tuple[float, float]:
    """Seconds to encode a megabyte, and to rebuild it with as many coded chunks as there are."""
    data = random.Random(2).randbytes(MB)
    chunks = erasure.encode(data, t, n)
    last = {index: chunks[index] for index in range(n - t, n)}
    assert erasure.decode(last, t, n, MB) == data
    return _seconds(lambda: erasure.encode(data, t, n)), _seconds(lambda: erasure.decode(last, t, n, MB))


def _seconds(work: Callable[[], object]) -> float:
    """Give the least processor time of a call."""
    samples: list[float] = []
    while len(samples) < 7 or sum(samples) < _LEAST_S:
        start = time.thread_time()
        work()
        samples.append(time.thread_time() - start)
    return min(samples)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.2f} µs"


if __name__ == "__main__":
    sys.exit(main())
