"""TLS connections between replicas, and from clients: who is at the other end, and what may pile up.

A replica dials every other one and sends on the connections it dialled; it hears on those it accepted. Each side
accepts exactly the certificates of the genesis. A client shows no certificate: it is greeted with a challenge and
answers with its key and a signature, so that replies to a key go to its owner.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from consensus.identity import verify_with
from consensus.messages import DOMAIN
from consensus.network.frames import LIMIT, FrameError, FrameReader, frame
from consensus.network.genesis import Genesis, Member
from shards.errors import InputError

QUEUE = LIMIT  # bytes that wait for one peer; beyond it the oldest messages are dropped, which protocols survive
FIRST_RETRY, LAST_RETRY = 0.05, 1.0  # seconds between two attempts to connect
PATIENCE = 10.0  # seconds for a handshake, for a client's hello, and until a silent connection counts as lost
CLIENTS = 1024  # connections of clients at once
CLIENT_FRAME = 32 << 20  # the largest message of a client, in bytes
CLIENT_BACKLOG = 64 << 20  # unread replies, in bytes, after which a client is cut off
HELLO = 32 + 64  # bytes of a client's answer to the challenge, without a frame: its key and a signature


def server_context(genesis: Genesis, identity: Path) -> ssl.SSLContext:
    """Make the TLS side that accepts members with their certificates, and clients without any.

    Raises
    ------
    InputError
        If a certificate of the genesis or the own key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    return _pinned(context, genesis.members, identity)


def client_context(peer: Member, identity: Path | None = None) -> ssl.SSLContext:
    """Make the TLS side that dials one member; replicas show their own certificate, clients none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known, which says more than a name in it
    return _pinned(context, [peer], identity)


def _pinned(context: ssl.SSLContext, members: Sequence[Member], identity: Path | None) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for member in members:
        try:
            context.load_verify_locations(cadata=member.der)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(f"genesis: the certificate of {member.name} cannot be used ({error})") from error
    if identity is not None:
        try:
            context.load_cert_chain(identity)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{identity}: no private key with its certificate ({error})") from error
    return context


def peer_certificate(transport: asyncio.BaseTransport) -> bytes:
    """Give the other side's certificate as DER; empty when it showed none."""
    return transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""


def hello_statement(chain: bytes, place: int, challenge: bytes) -> bytes:
    """Bytes that a client signs to show a replica its key; the replica is named, so that none can pass it on."""
    return DOMAIN + b"/hello/" + chain + place.to_bytes(8, "big") + challenge


def notice_silence(transport: asyncio.BaseTransport) -> None:
    """Have the system break a connection whose other end does not acknowledge what it was sent."""
    if (sock := transport.get_extra_info("socket")) is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * PATIENCE))


class Link(asyncio.Protocol):
    """A connection that is dialled, again and again if need be, with the messages that wait for it.

    Parameters
    ----------
    peer : Member
        Who must be there.
    context : SSLContext
        From `client_context`.

    Attributes
    ----------
    dropped : int
        Messages that were dropped since too many waited.
    """

    def __init__(self, peer: Member, context: ssl.SSLContext) -> None:
        self.peer = peer
        self.dropped = 0
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._open = False  # whether messages may be written now
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes in `_waiting`, at most `QUEUE` unless it is a single message
        self._lost = asyncio.Event()

    def send(self, framed: bytes) -> None:
        """Let a framed message wait; `flush` writes it."""
        self._waiting.append(framed)
        self._size += len(framed)
        while self._size > QUEUE and len(self._waiting) > 1:
            self._size -= len(self._waiting.popleft())
            self.dropped += 1

    def flush(self) -> None:
        """Write everything that waits, in one piece, if the connection takes it."""
        if self._open and self._waiting and self._transport is not None:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            self._transport.write(data)

    async def keep(self) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        loop = asyncio.get_running_loop()
        delay = FIRST_RETRY
        try:
            while True:
                self._lost.clear()
                began = time.monotonic()
                with contextlib.suppress(OSError):
                    await loop.create_connection(
                        lambda: self,
                        self.peer.host,
                        self.peer.port,
                        ssl=self._context,
                        ssl_handshake_timeout=PATIENCE,
                    )
                    await self._lost.wait()
                lasted = time.monotonic() - began > LAST_RETRY
                delay = FIRST_RETRY if lasted else min(2 * delay, LAST_RETRY)
                await asyncio.sleep(delay)
        finally:
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to write, if it is the right peer."""
        self._transport = cast(asyncio.Transport, transport)
        if peer_certificate(transport) != self.peer.der:
            self._transport.abort()
            return
        notice_silence(transport)
        self.connected()

    def connected(self) -> None:
        """Hear that the right peer is there."""
        self._open = True
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Replicas answer on connections of their own; one that does not is cut off."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Let messages wait while the connection is full."""
        self._open = False

    def resume_writing(self) -> None:
        """Write what waited."""
        self._open = True
        self.flush()

    def connection_lost(self, exception: Exception | None) -> None:
        """Make `keep` connect again."""
        self._open = False
        self._transport = None
        self._lost.set()


class Door:
    """All connections that a replica accepted.

    Parameters
    ----------
    genesis : Genesis
        Who is let in as a member.
    own : int
        This replica's place.
    received : callable
        Called with the sender's place, -1 for a client, and the messages that arrived together.
    """

    def __init__(self, genesis: Genesis, own: int, received: Callable[[int, list[bytes]], None]) -> None:
        self.received = received
        self.place_of = {member.der: place for place, member in enumerate(genesis.members)}
        self.chain, self.own = genesis.chain, own
        self.visitors: set[Visitor] = set()
        self.members: dict[int, Visitor] = {}
        self.clients: dict[bytes, Visitor] = {}

    def answer(self, client: bytes, data: bytes) -> None:
        """Send a client a message, if it is connected here."""
        if (visitor := self.clients.get(client)) is not None:
            visitor.answer(data)

    def close(self) -> None:
        """Cut all connections."""
        for visitor in tuple(self.visitors):
            visitor.abort()


class Visitor(asyncio.Protocol):
    """One accepted connection, of a member or of a client."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._member = -1
        self._client = b""
        self._challenge = b""  # what a client must sign; empty once it did, and for members
        self._hello = b""
        self._hello_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Recognise a member by its certificate, or challenge a client."""
        self._transport = cast(asyncio.Transport, transport)
        notice_silence(transport)
        certificate = peer_certificate(transport)
        self._member = self._door.place_of.get(certificate, -1)
        if certificate and self._member in (-1, self._door.own):
            self._transport.abort()
        elif certificate:
            self._door.visitors.add(self)
            if (older := self._door.members.get(self._member)) is not None:
                older.abort()
            self._door.members[self._member] = self
        elif len(self._door.visitors) - len(self._door.members) >= CLIENTS:
            self._transport.abort()
        else:
            self._door.visitors.add(self)
            self._reader = FrameReader(CLIENT_FRAME)
            self._challenge = os.urandom(32)
            self._hello_due = asyncio.get_running_loop().call_later(PATIENCE, self.abort)
            self._transport.write(frame(self._challenge))

    def data_received(self, data: bytes) -> None:
        """Hand on whole messages; a sender that breaks the format is cut off."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._challenge:
            self._hello += data
            if len(self._hello) < HELLO:
                return
            data, self._hello = self._hello[HELLO:], self._hello[:HELLO]
            if not self._welcome():
                self.abort()
                return
        try:
            messages = self._reader.feed(data)
        except FrameError:
            self.abort()
            return
        if messages:
            self._door.received(self._member, messages)

    def _welcome(self) -> bool:
        """Say whether a client proved its key; replies to that key then go to it."""
        client, signature = self._hello[:32], self._hello[32:]
        statement = hello_statement(self._door.chain, self._door.own, self._challenge)
        self._challenge = b""
        if self._hello_due is not None:
            self._hello_due.cancel()
        if not verify_with(client, statement, signature):
            return False
        if (older := self._door.clients.get(client)) is not None:
            older.abort()
        self._client = client
        self._door.clients[client] = self
        return True

    def answer(self, data: bytes) -> None:
        """Send a client a message, unless it left too many unread."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > CLIENT_BACKLOG:
            self.abort()
        else:
            self._transport.write(frame(data))

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exception: Exception | None) -> None:
        """Forget it."""
        self._transport = None
        if self._hello_due is not None:
            self._hello_due.cancel()
        door = self._door
        door.visitors.discard(self)
        if door.members.get(self._member) is self:
            del door.members[self._member]
        if door.clients.get(self._client) is self:
            del door.clients[self._client]
