"""One fault-free decision of `flat` by a thousand replicas: the event simulator's arithmetic on whole arrays.

What a replica does is determined by the order in which messages reach it, and that follows from when others sent
theirs. So every replica's queue is served in one piece (`_serve`), first as if nobody's messages came ahead of the
phase before, then again for those replicas at which some did, until nothing changes. Times are whole nanoseconds,
equal to those of `consensus.simulation.events` without jitter, as long as no two messages reach a replica in the same
nanosecond.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consensus.simulation.costs import Costs
from consensus.simulation.network import NANO, nanos

Times = NDArray[np.int64]

_NEVER = 1 << 60
_PROPOSAL, _PREPARE, _COMMIT = 0, 1, 2  # kept in the two lowest bits of an arrival, so that one sort orders both


@dataclass(frozen=True)
class Flat:
    """What `flat` is asked to decide, and with what.

    Attributes
    ----------
    delay : array of int64, shape (n, n)
        One-way delays in nanoseconds.
    quorum : int
        Signatures that decide.
    leader : int
        Who proposes.
    request, proposal, vote, reply : int
        Bytes of each message.
    scheme : str
        Signature scheme, see `Costs.signatures`.
    client_s : float
        Seconds to check the client's signature.
    costs : Costs
        What processors take.
    uplink, downlink : float
        Bits per second; 0 for no limit.
    """

    delay: Times
    quorum: int
    leader: int
    request: int
    proposal: int
    vote: int
    reply: int
    scheme: str
    client_s: float
    costs: Costs
    uplink: float = 0.0
    downlink: float = 0.0


@dataclass(frozen=True)
class Decision:
    """When each replica passed each phase: nanoseconds after the request had reached the leader, shape (n,).

    Attributes
    ----------
    accepted : array
        Its PREPARE vote went out (at the leader: the proposal).
    prepared : array
        It held a quorum of PREPARE votes, and its COMMIT vote went out.
    executed : array
        It held a quorum of COMMIT votes. A replica that knows of the decision before it has the batch would ask for
        it; here it waits for the leader's copy, so such a replica's figure is an upper bound, see `early`.
    replied : array
        Its reply left it for the client.
    early : array of bool
        Who knew of the decision before the batch; where there are any, times after that are not exact.
    """

    accepted: Times
    prepared: Times
    executed: Times
    replied: Times
    early: NDArray[np.bool_]


@dataclass(frozen=True)
class _Served:
    """What became of some replicas' queues.

    `prepared_by` is when the last message came that `prepared`
    waits for, `send_commit` and `send_reply` are when the uplink could have them.
    """

    accepted: Times
    prepared: Times
    prepared_by: Times
    send_commit: Times
    executed: Times
    send_reply: Times
    early: NDArray[np.bool_]


def decide(flat: Flat) -> Decision:
    """Work out one decision without faults, by replicas that are idle when the request comes."""
    work = _Work(flat)
    everyone, leads = np.arange(work.n), work.leads
    # The leader's queue begins with the request, everybody else's with what the leader then sends.
    start = np.array([nanos(work.accept_own)])
    sent, leader_free = work.copies(start, np.zeros(1, np.int64), flat.proposal, np.array([flat.leader]))
    proposal = np.where(leads, 0, sent[0] + flat.delay[flat.leader])
    free = np.where(leads, leader_free[0], 0)

    send_prepare = np.where(leads, _NEVER, proposal + nanos(work.accept))  # a leader sends the proposal instead
    send_commit, prepared_by, commits = np.full(work.n, _NEVER), np.zeros(work.n, np.int64), None
    prepares, idle = work.arrivals(send_prepare, free)
    # Where prepare votes come before the proposal, they may hold it up.
    while len(rows := np.flatnonzero((prepares < proposal[:, None]).any(axis=1))):
        accepted = work.serve(rows, proposal, prepares, None).accepted
        if (accepted == send_prepare[rows]).all():
            break
        send_prepare[rows] = accepted
        prepares, idle = work.arrivals(send_prepare, free)
    rows = everyone
    while True:
        served = work.serve(rows, proposal, prepares, commits)
        voted = np.where(leads[rows], _NEVER, served.accepted)
        again = bool((voted != send_prepare[rows]).any())
        moved = again or bool((served.send_commit != send_commit[rows]).any())
        if not moved and commits is not None and len(rows) == work.n:
            break
        send_prepare[rows], send_commit[rows], prepared_by[rows] = voted, served.send_commit, served.prepared_by
        if again:
            prepares, idle = work.arrivals(send_prepare, free)
        busy = np.where(send_prepare <= send_commit, idle, free)
        commits, _ = work.arrivals(send_commit, busy)
        # Where no commit vote comes before the quorum of prepare votes, what is sent stays as it is.
        ahead = np.flatnonzero((commits < prepared_by[:, None]).any(axis=1))
        rows = ahead if moved and not again and len(ahead) else everyone
    _, busy = work.copies(send_commit, busy, flat.vote, everyone)
    replied = np.maximum(served.send_reply, busy) + work.wire(flat.reply, flat.uplink)
    return Decision(served.accepted, served.prepared, served.executed, replied, served.early)


class _Work:
    """The prices of every step, and the arithmetic of queues."""

    def __init__(self, flat: Flat) -> None:
        self.flat, self.n = flat, len(flat.delay)
        costs, signatures = flat.costs, flat.costs.signatures(flat.scheme, self.n)
        self.leads = np.arange(self.n) == flat.leader
        request, proposal, self.vote = (
            costs.transfer(size) + costs.hash(size) for size in (flat.request, flat.proposal, flat.vote)
        )
        self.sign, self.verify = signatures.sign_s, signatures.verify_s
        self.accept_own = request + flat.client_s + self.sign
        self.accept = proposal + self.verify + flat.client_s + self.sign
        self.copy, self.reply = nanos(costs.transfer(flat.vote)), nanos(costs.transfer(flat.reply))
        self.up, self.down = self.wire(flat.vote, flat.uplink), self.wire(flat.vote, flat.downlink)

    def wire(self, size: int, link: float) -> int:
        """Nanoseconds that a message occupies a link."""
        return nanos(8 * size / link) if link else 0

    def copies(self, ready: Times, free: Times, size: int, senders: NDArray[np.intp]) -> tuple[Times, Times]:
        """Send a message to all others, in order: when each copy has left, (senders, n), and when the last has.

        Copy i takes the processor w, then the uplink x: ``L_i = max(ready + (i+1)w, L_{i-1}) + x``, of which the
        solution is ``max(max(ready + w, free) + (i+1)x, ready + (i+1)w + x)``.
        """
        w, x = nanos(self.flat.costs.transfer(size)), self.wire(size, self.flat.uplink)
        turn = np.arange(1, self.n + 1) - (np.arange(self.n) > senders[:, None])
        begins = np.maximum(ready + w, free) if self.flat.uplink else ready + w
        left = np.maximum(begins[:, None] + turn * x, (ready + x)[:, None] + turn * w)
        last = np.maximum(begins + (self.n - 1) * x, ready + x + (self.n - 1) * w)
        return left, last

    def arrivals(self, ready: Times, free: Times) -> tuple[Times, Times]:
        """Send votes to all others: when they arrive, (receivers, senders), and when uplinks are free again."""
        left, last = self.copies(ready, free, self.flat.vote, np.arange(self.n))
        left += self.flat.delay
        np.fill_diagonal(left, _NEVER)
        left[ready >= _NEVER] = _NEVER
        return np.ascontiguousarray(left.T), last

    def serve(self, rows: NDArray[np.intp], proposal: Times, prepares: Times, commits: Times | None) -> _Served:
        """Serve some replicas' queues: messages in the order of arrival, through the downlink, then the processor.

        Both are queues of one server: ``F_k = max(T_k, F_{k-1}) + c_k``, so with ``S_k = c_0 + … + c_k`` it is
        ``F_k = S_k + max over j up to k of (T_j - S_{j-1})``.
        """
        flat, q, row, leads = self.flat, self.flat.quorum, np.arange(len(rows)), self.leads[rows]
        columns = [proposal[rows, None] << 2 | _PROPOSAL, prepares[rows] << 2 | _PREPARE]
        if commits is not None:
            columns.append(commits[rows] << 2 | _COMMIT)
        keys = np.sort(np.concatenate(columns, axis=1), axis=1)
        kind = (keys & 3).astype(np.int8)
        place = np.arange(keys.shape[1])
        first = (kind == _PROPOSAL).argmax(axis=1)
        held = np.cumsum(kind == _PREPARE, axis=1, dtype=np.int32)
        held += (place >= first[:, None]) * np.where(leads, 1, 2).astype(np.int32)[:, None]
        second = (held >= q).argmax(axis=1)
        third = np.full(len(rows), keys.shape[1])  # never, while nobody commits
        if commits is not None:
            held = np.cumsum(kind == _COMMIT, axis=1, dtype=np.int32)
            held += place >= second[:, None]
            third = (held >= q).argmax(axis=1)
        # What comes after the last of the three that lead to votes and replies changes nothing.
        ends = [first, second] if commits is None else [first, second, third]
        end = int(np.max(ends)) + 1
        kind, at, place = kind[:, :end], keys[:, :end] >> 2, place[:end]
        checked = (kind == _PREPARE) & (place <= second[:, None]) | (kind == _COMMIT) & (place <= third[:, None])

        # What those three cost, and the part of it that is sending.
        early, both, at_once, last = third < first, first == second, third == first, third == second
        copies = (self.n - 1) * self.copy
        sends = np.where(leads, (self.n - 1) * nanos(flat.costs.transfer(flat.proposal)), copies)
        sends_first = sends + both * copies + at_once * self.reply
        sends_second = copies + last * self.reply
        vote = self.vote + (self.verify + self.sign)
        accept = np.where(leads, self.accept_own, self.accept) + (both * self.sign + at_once * self.sign)
        cost = np.where(checked, nanos(self.vote + self.verify), nanos(self.vote))
        if commits is not None:
            cost[row, third] = nanos(vote) + self.reply
        cost[row, second] = _nanos(vote + last * self.sign) + sends_second
        cost[row, first] = _nanos(accept) + sends_first

        prepared_by = at[row, np.maximum(first, second)]
        if flat.downlink:
            takes = np.full(at.shape, self.down)
            takes[row, first] = np.where(leads, 0, self.wire(flat.proposal, flat.downlink))
            total = np.cumsum(takes, axis=1)
            at = total + np.maximum.accumulate(at + max(0, self.down - self.up) - total, axis=1)
        total = np.cumsum(cost, axis=1)
        done = total + np.maximum.accumulate(at - total + cost, axis=1)
        accepted = done[row, first] - sends_first
        prepared = np.where(both, accepted, done[row, second] - sends_second)
        replied = done[row, np.minimum(third, end - 1)]
        executed = replied - np.where(at_once, sends_first, np.where(last, sends_second, self.reply))
        return _Served(
            accepted,
            prepared,
            prepared_by,
            np.where(both, accepted + sends, prepared),
            np.where(early, accepted, executed),
            np.where(early, accepted, replied),
            early,
        )


def _nanos(seconds: NDArray[np.float64]) -> Times:
    return np.rint(seconds * NANO).astype(np.int64)
