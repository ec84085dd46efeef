"""What a new view must not lose: pure functions over signed view changes (PBFT, section 4.4, with certificates)."""

from collections import Counter
from collections.abc import Iterable

from consensus.messages import CHECKPOINT, NULL, PREPARE, Bundle, ViewChange
from consensus.pbft.epoch import Epoch
from consensus.quorum import FastThreshold


def well_founded(change: ViewChange, epoch: Epoch, base: int, window: int) -> bool:
    """Check everything that a view change claims.

    Parameters
    ----------
    change : ViewChange
        Its own signature was checked before.
    epoch : Epoch
        The current one.
    base : int
        The number at which the epoch began; it needs no checkpoint certificate of this epoch.
    window : int
        How many numbers may be live.
    """
    stable = change.stable
    if stable is not None and stable.seq > base and (stable.phase != CHECKPOINT or not epoch.certifies(stable)):
        return False
    low = max(base, stable.seq) if stable is not None else base
    if stable is not None and stable.seq < base:
        return False
    previous = low
    for certificate in change.prepared:
        if not previous < certificate.seq <= low + window or certificate.view >= change.view:
            return False
        if certificate.phase != PREPARE or not epoch.certifies(certificate):
            return False
        previous = certificate.seq
    previous = low
    for vote in change.voted:
        if not previous < vote.seq <= low + window or vote.view >= change.view or vote.signer != change.signer:
            return False
        if vote.phase != PREPARE or vote.epoch != epoch.number or not epoch.valid_vote(vote):
            return False
        previous = vote.seq
    return True


def newest_stable(changes: Iterable[ViewChange], base: int) -> tuple[int, Bundle | None]:
    """Find the highest proven stable checkpoint; the epoch's base, with None, when there is none above it."""
    best: tuple[int, Bundle | None] = (base, None)
    for change in changes:
        if change.stable is not None and change.stable.seq > best[0]:
            best = (change.stable.seq, change.stable)
    return best


def prescribed(changes: Iterable[ViewChange], epoch: Epoch, low: int) -> dict[int, bytes]:
    """Compute what the new view votes on again: a digest for every number above `low` that may have been decided.

    For each number the prepared certificate of the highest view counts. In the fast protocol the votes count too: a
    digest with at least n - 3f of them. Numbers in between that nobody prepared get `NULL`.

    Returns
    -------
    dict
        Digest by number, without gaps from ``low + 1``.
    """
    changes = list(changes)
    best: dict[int, Bundle] = {}
    for change in changes:
        for certificate in change.prepared:
            known = best.get(certificate.seq)
            if certificate.seq > low and (known is None or certificate.view > known.view):
                best[certificate.seq] = certificate
    chosen = {seq: certificate.digest for seq, certificate in best.items()}
    if isinstance(epoch.quorums, FastThreshold):
        counts = Counter((vote.seq, vote.digest) for change in changes for vote in change.voted if vote.seq > low)
        for (seq, digest), count in counts.items():
            if count >= epoch.quorums.survivors and seq not in chosen:
                chosen[seq] = digest
    return {seq: chosen.get(seq, NULL) for seq in range(low + 1, max(chosen, default=low) + 1)}
