"""What `benchmarks.fuzz` feeds: each target takes any bytes and fails only if a promise is broken.

A target's seeds are real messages. Bytes that are msgpack are mostly changed as what they mean (`mutate`): a number
by one, a field dropped, a signer exchanged; random bytes hardly ever are a message.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack.fallback
import msgspec
from msgspec.structs import replace

from consensus import erasure, merkle, messages
from consensus.identity import Null, null_client_signature
from consensus.machine import Effect, Fired, Received, Send
from consensus.messages import Chunk, Content, Fetch, Message, Proposal, Reply, Request, Signed, Vote, decode, encode
from consensus.network.frames import FrameError, FrameReader, frame
from consensus.payload import Gather, Scatter
from consensus.pbft.config import Config
from consensus.pbft.membership import change
from consensus.pbft.replica import Replica
from consensus.pbft.views import STATUS, VIEW
from consensus.protocols import find
from consensus.simulation.application import Chain

CHAIN = bytes(32)
N = 4
FAULTY, FUZZED = 0, 2  # whose key the fuzzer has, who leads view 0; and the replica that gets its messages
TIMERS = {N: VIEW, N + 1: STATUS}  # what stands for a timer in the place of a sender
_CLIENT = b"c" * 32
_NUMBERS = (0, 1, -1, 2, 3, 4, 255, 256, 2**16, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
_SIZE = 90  # of the batch in chunks
Events = list[tuple[int, bytes]]
_events = msgspec.msgpack.Decoder(Events)
_chunks = msgspec.msgpack.Decoder(list[Chunk])


@dataclass(frozen=True)
class Target:
    """Something that reads what strangers send.

    Attributes
    ----------
    test : callable
        Takes bytes; raises if a promise is broken.
    seeds : callable
        Makes the first inputs.
    limit : int
        The longest input, in bytes.
    """

    test: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    limit: int


def mutate(data: bytes, random: random.Random) -> bytes:
    """Change one thing in bytes that are msgpack, however deep; empty when they are not."""
    try:
        tree = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return b""
    return msgspec.msgpack.encode(_changed(tree, random))


def _changed(node: Any, random: random.Random) -> Any:
    if random.random() < 0.05:
        return random.choice([None, True, 1.5, "text", {}, [], b"", 0])
    match node:
        case list() if node and random.random() < 0.85:
            at = random.randrange(len(node))
            return [*node[:at], _changed(node[at], random), *node[at + 1 :]]
        case list():
            at = random.randrange(len(node) + 1)
            return random.choice([node[:at], node[at:], node + node[at:], node[:at] + node[at + 1 :], node[::-1]])
        case bytes():
            return mutate(node, random) or _changed_bytes(node, random)
        case bool() | None | str() | float() | dict():
            return 0
        case int():
            number = random.choice([node + 1, node - 1, *_NUMBERS])
            return number if -(2**63) <= number < 2**64 else 0


def _changed_bytes(node: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(node) + 1)
    return random.choice([node[:at], node[at:], node + node[:at], node[:at] + random.randbytes(1) + node[at + 1 :]])


# -- decoding ---------------------------------------------------------------------------------------------------


def _decode(data: bytes) -> None:
    """Give a message or None; it is the same after encoding, and another reader agrees about what it says."""
    message = decode(data)
    if message is None:
        return
    again = encode(message)
    assert decode(again) == message
    assert msgspec.msgpack.decode(again) == _slowly(data), "msgpack for Python reads something else"
    assert messages.decode_as(type(message), data) == message


def _slowly(data: bytes) -> Any:
    """Read by msgpack's pure Python reader: its branches are what the fuzzer is guided by."""
    return msgpack.fallback.unpackb(data, raw=False, strict_map_key=False, use_list=True)


def _decode_batch(data: bytes) -> None:
    """Give a batch only if the bytes are its one canonical form."""
    batch = messages.decode_batch(data)
    if batch is not None:
        assert encode(batch) == data
        assert _slowly(data) == msgspec.msgpack.decode(data)


def _signers(data: bytes) -> None:
    """Read no set from two encodings, and none that names a replica that does not exist."""
    n, encoded = int.from_bytes(data[:2], "big"), data[2:]
    signers = messages.signers_from_bytes(encoded, n)
    assert 0 <= signers < 1 << n
    assert not signers or messages.signers_to_bytes(signers) == encoded


# -- the data plane ---------------------------------------------------------------------------------------------


def _frames(data: bytes) -> None:
    """Give the same frames however a stream is cut, keep no more bytes than needed, and fail for good."""
    limit, cut, stream = int.from_bytes(data[:2], "big"), data[2:6], data[6:]
    whole, broken = _frames_of(stream, limit)
    reader, got, failed, at = FrameReader(limit), [], False, 0
    for turn in range(len(stream) + 1):
        piece = stream[at : at + 1 + (cut[turn % len(cut)] if cut else 0)]
        at += len(piece)
        try:
            got += reader.feed(piece)
            assert not failed, "a reader that failed goes on"
        except FrameError:
            failed = True
        assert reader.pending < limit + 4 or failed
        if at == len(stream):
            break
    assert failed == broken
    assert got == whole[: len(got)]
    assert failed or got == whole


def _frames_of(stream: bytes, limit: int) -> tuple[list[bytes], bool]:
    frames = []
    while len(stream) >= 4:
        length = int.from_bytes(stream[:4], "big")
        if length > limit:
            return frames, True
        if length > len(stream) - 4:
            break
        frames.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return frames, False


@lru_cache
def _scattered() -> tuple[Scatter, bytes, bytes, list[Chunk]]:
    scatter, batch = Scatter(7, 2), bytes(range(_SIZE))
    root, pieces = scatter.split(batch)
    return scatter, batch, root, [Chunk(0, 0, 1, root, index, _SIZE, *piece) for index, piece in enumerate(pieces)]


def _gather(data: bytes) -> None:
    """Count no chunk but the true ones, and rebuild the batch from enough of them."""
    scatter, batch, root, true = _scattered()
    gather, taken = Gather(root, _SIZE, scatter), 0
    try:
        sent = _chunks.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return
    for chunk in sent:
        if gather.add(chunk):
            taken += 1
            assert chunk.data == true[chunk.index].data
            assert not gather.add(chunk)
    assert gather.ready == (taken == scatter.needed)
    assert not gather.ready or gather.rebuild() == batch


def _inconsistent(data: bytes) -> None:
    """Give all who rebuild the same, one batch or nothing, whatever a leader puts under one root."""
    scatter = Scatter(7, 2)
    length = len(data) // scatter.chunks
    size = length * scatter.needed - (data[-1] % 2 if length else 0)
    pieces = [data[at * length : (at + 1) * length] for at in range(scatter.chunks)]
    tree = merkle.Tree([size.to_bytes(8, "big") + piece for piece in pieces])
    chunks = [Chunk(0, 0, 1, tree.root, at, size, piece, tree.proof(at)) for at, piece in enumerate(pieces)]
    answers = set()
    for chosen in ((0, 1, 2), (4, 5, 6), (0, 3, 6), (1, 4, 5)):
        gather = Gather(tree.root, size, scatter)
        if sum(gather.add(chunks[at]) for at in chosen) == len(chosen):
            answers.add(gather.rebuild())
    assert len(answers) <= 1
    assert all(
        answer is None or erasure.encode(answer, scatter.needed, scatter.chunks) == pieces for answer in answers
    )


def _codeword() -> bytes:
    return b"".join(erasure.encode(bytes(range(_SIZE)), 3, 7))


# -- a whole replica --------------------------------------------------------------------------------------------


def _replica(own: int) -> Replica:
    config = Config(CHAIN, own, tuple(bytes([place + 1]) * 32 for place in range(N)), find("flat"), admin=_CLIENT,
                    period=2, window=4, in_flight=2, inline=150)  # fmt: skip
    return Replica(config, lambda members, own: Null(own, len(members)), Chain())


def _step(data: bytes) -> None:
    """Go on, whatever anybody sends, the holder of one member's key included."""
    try:
        events = _events.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return
    replica = _replica(FUZZED)
    replica.start()
    for sender, message in events[:64]:
        if sender in TIMERS:
            replica.step(Fired(TIMERS[sender]))
        elif -1 <= sender < N and sender != FUZZED:
            replica.step(Received(sender, _signed(message)))


def _signed(data: bytes) -> bytes:
    """Sign what the faulty member and any client may sign; everything else stays as it is."""
    scheme, message = Null(FAULTY, N), decode(data)
    signed: Message | None = message
    try:
        match message:
            case Vote(signer=signer) if signer == FAULTY:
                signed = replace(message, signature=scheme.sign(_about(message, message.phase)))
            case Proposal(batch=batch):
                if batch:
                    message = replace(message, digest=messages.batch_digest(batch), size=len(batch))
                signed = replace(message, signature=scheme.sign(_about(message, messages.PREPARE)))
            case Signed(signer=signer) if signer == FAULTY:
                about = messages.body_statement(CHAIN, message.body)
                signed = replace(message, signature=scheme.sign(about))
            case Request():
                about = messages.request_statement(CHAIN, message.timestamp, message.operation)
                signed = replace(message, signature=null_client_signature(message.client, about))
    except OverflowError:  # numbers that cannot be signed travel unsigned
        return data
    return encode(signed) if signed is not None and signed != message else data


def _about(message: Vote | Proposal, phase: int) -> bytes:
    return messages.statement(CHAIN, phase, message.epoch, message.view, message.seq, message.digest)


def _runs() -> list[bytes]:
    """Record what the fuzzed replica receives: batches, chunks, checkpoints, a view change, a lag, a new member."""
    keys = tuple(bytes([place + 1]) * 32 for place in range(N))
    small, large, joining = b"a", b"b" * 300, change((*keys[:3], b"x" * 32))
    plans: list[tuple[list[bytes], int | None]] = [
        ([small], None), ([small, large], None), ([large] * 5, None), ([small] * 5, 2), ([large, small], 0),
        ([joining, *[small] * 9], None),
    ]  # fmt: skip
    return [msgspec.msgpack.encode(_run(operations, silent)) for operations, silent in plans]


def _run(operations: list[bytes], silent: int | None) -> Events:
    replicas = [_replica(own) for own in range(N)]
    queue: list[tuple[int, int, bytes]] = []
    received: Events = []

    def carry(sender: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and sender != silent:
                queue.extend((sender, to, effect.data) for to in effect.to if to != silent)

    def settle() -> None:
        while queue:
            sender, to, data = queue.pop(0)
            if to == FUZZED:
                received.append((sender, data))
            carry(to, replicas[to].step(Received(sender, data)))

    for own, replica in enumerate(replicas):
        carry(own, replica.start())
    for timestamp, operation in enumerate(operations, 1):
        about = messages.request_statement(CHAIN, timestamp, operation)
        request = encode(Request(_CLIENT, timestamp, operation, null_client_signature(_CLIENT, about)))
        queue.extend((-1, to, request) for to in range(N) if to != silent)
        settle()
    if silent == FUZZED:  # the others go on without it, and now it comes back
        silent = None
        carry(FUZZED, replicas[FUZZED].start())
        settle()
    for timer in TIMERS.values():
        for own, replica in enumerate(replicas):
            if own == FUZZED:
                received.append((next(place for place, name in TIMERS.items() if name == timer), b""))
            carry(own, replica.step(Fired(timer)))
        settle()
    return received


def _single() -> list[bytes]:
    """Every kind of message that occurs in the runs, once."""
    kinds: dict[type, bytes] = {}
    for run in _runs():
        for _, data in _events.decode(run):
            kinds.setdefault(type(decode(data)), data)
            if isinstance(signed := decode(data), Signed):
                kinds.setdefault(type(decode(signed.body)), signed.body)
    kinds.pop(type(None), None)
    rare = [
        _scattered()[3][0],
        Reply(_CLIENT, 1, 0, FAULTY, b"ok", bytes(4)),
        Fetch(1, bytes(32), FAULTY),
        Content(1, encode(messages.Batch(0, (b"request",)))),
        messages.Repeat(next(data for data in kinds.values() if isinstance(decode(data), messages.Vote))),
    ]
    return [*kinds.values(), *map(encode, rare)]


def _batches() -> list[bytes]:
    return [encode(messages.Batch(0, ())), encode(messages.Batch(7, (b"", b"request", bytes(300))))]


def _streams() -> list[bytes]:
    stream = b"".join(map(frame, (b"", b"message", bytes(300))))
    return [b"\x10\x00\x00\x05\x01\x40" + stream, b"\x01\x00\xff\xff\xff\xff" + stream + b"\xff\xff\xff\xff"]


TARGETS = {
    "decode": Target(_decode, _single, 4096),
    "decode_batch": Target(_decode_batch, _batches, 2048),
    "signers": Target(_signers, lambda: [b"\x00\x07\x7f", b"\x01\x00" + b"\xff" * 32, b"\x00\x08\x01\x00"], 256),
    "frames": Target(_frames, _streams, 2048),
    "gather": Target(_gather, lambda: [msgspec.msgpack.encode(_scattered()[3][at:]) for at in (0, 3)], 4096),
    "inconsistent": Target(_inconsistent, lambda: [_codeword(), _codeword() + b"\1", b""], 512),
    "replica": Target(_step, _runs, 1 << 16),
}
