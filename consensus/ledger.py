"""The ledger: what a council decided, as a chain of blocks that anybody can check offline.

Two files lie in a folder: ``genesis.json`` says who decides and how, and its digest names the chain; ``ledger.jsonl``
has one block per line, appended durably. A block's own hash covers what was decided and not whose votes prove it:
replicas may hold different certificates of the same block. That the end of the file is missing cannot be seen from
the file: keep `Checked.head` elsewhere for that.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import Struct

from consensus.identity import verify_with
from consensus.machine import Decided
from consensus.messages import (
    CHECKPOINT,
    COMMIT,
    DOMAIN,
    PREPARE,
    Bundle,
    Handoff,
    Request,
    batch_digest,
    decode_as,
    decode_batch,
    request_statement,
    signers_from_bytes,
    statement,
)
from consensus.pbft.state import decode_header, state_digest
from consensus.protocols import find
from consensus.quorum import members_of
from consensus.regions import Regions
from shards.disk import disk_error, sync_folder, write_atomically
from shards.errors import FedshardError, InputError

GENESIS, LEDGER = "genesis.json", "ledger.jsonl"
_FORMAT = 1
_SIGNATURE = 64


class Genesis(Struct, frozen=True, forbid_unknown_fields=True):
    """Who decides at the beginning, and how.

    Attributes
    ----------
    protocol : str
        A name of `consensus.protocols`.
    members : tuple of str
        Ed25519 public keys of the first epoch's members, by place (hexadecimal).
    regions : tuple of tuple of int
        The members of each region.
    keys : str
        Where the keys come from, for a person.
    format : int
        Of this file.
    """

    protocol: str
    members: tuple[str, ...]
    regions: tuple[tuple[int, ...], ...]
    keys: str
    format: int = _FORMAT

    @property
    def chain(self) -> bytes:
        """The 32 bytes that name the chain: part of everything that is signed."""
        return hashlib.sha256(DOMAIN + b"/genesis/" + msgspec.json.encode(self)).digest()

    @property
    def publics(self) -> tuple[bytes, ...]:
        """The members' public keys."""
        return tuple(map(bytes.fromhex, self.members))

    def encode(self) -> bytes:
        """Give its canonical bytes."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes, where: str) -> "Genesis":
        """Read its bytes; `where` names them in errors.

        Raises
        ------
        InputError
            If they are no genesis.
        """
        try:
            genesis = msgspec.json.decode(data, type=cls)
            if genesis.format != _FORMAT:
                raise InputError(f"{where}: format {genesis.format}, this fedshard reads {_FORMAT}")
            if any(len(key) not in (0, 32) for key in genesis.publics):
                raise ValueError("a key is not 32 bytes long")
            find(genesis.protocol)
            Regions(genesis.regions).covering(range(len(genesis.members)))
        except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{where}: damaged, not a council's genesis: {error}") from error
        return genesis

    def write(self, folder: Path) -> None:
        """Write ``genesis.json``, durably; one that is there already must be the same.

        Raises
        ------
        InputError
            If another council's is there.
        """
        path = folder / GENESIS
        if not path.exists():
            write_atomically(path, msgspec.json.format(self.encode(), indent=1) + b"\n")
        elif Genesis.read(folder) != self:
            raise InputError(f"{path}: is another council's; the chain cannot go on with other keys or regions")

    @classmethod
    def read(cls, folder: Path) -> "Genesis":
        """Read ``genesis.json``.

        Raises
        ------
        InputError
            If it is not there, or damaged.
        """
        path = folder / GENESIS
        try:
            return cls.decode(path.read_bytes(), str(path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{folder}: no {GENESIS}, so there is no council's ledger here") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """One decision of the council.

    Attributes
    ----------
    height : int
        From 1, without gaps.
    previous : bytes
        Hash of the block before; the chain's name for the first.
    epoch, view, seq : int
        Where it was decided.
    digest : bytes
        Of the batch; `NULL` for one that does nothing.
    batch : bytes
        The encoded batch with its requests; empty for one that does nothing.
    certificate : bytes
        The encoded bundle of a quorum's votes.
    handoff : bytes
        In the first block of a later epoch: the encoded `Handoff` that proves who its members are.
    """

    height: int
    previous: bytes
    epoch: int
    view: int
    seq: int
    digest: bytes
    batch: bytes
    certificate: bytes
    handoff: bytes = b""

    @classmethod
    def following(cls, previous: "Block | None", chain: bytes, decided: Decided, handoff: bytes = b"") -> "Block":
        """Make the block of a decision that follows another one (None: the first of a chain)."""
        return cls(
            1 if previous is None else previous.height + 1,
            chain if previous is None else previous.hash,
            decided.epoch,
            decided.view,
            decided.seq,
            decided.digest,
            decided.batch,
            decided.certificate,
            handoff,
        )

    @property
    def hash(self) -> bytes:
        """SHA-256 over what was decided and all that came before it."""
        numbers = b"".join(number.to_bytes(8, "big") for number in (self.height, self.epoch, self.seq))
        return hashlib.sha256(DOMAIN + b"/block/" + self.previous + numbers + self.digest).digest()

    @property
    def operations(self) -> tuple[bytes, ...]:
        """What clients asked for and the council decided, in order."""
        return tuple(request.operation for request in self.requests())

    def requests(self) -> tuple[Request, ...]:
        """Read the requests; those that are none are left out."""
        batch = decode_batch(self.batch) if self.batch else None
        found = [decode_as(Request, item) for item in (batch.requests if batch else ())]
        return tuple(request for request in found if request is not None)


@dataclass(frozen=True)
class Members:
    """The members of one epoch and which of their signatures decide.

    Attributes
    ----------
    genesis : Genesis
        Of the chain.
    epoch : int
        The epoch.
    publics : tuple of bytes
        Their public keys by place; empty where there is nobody.
    """

    genesis: Genesis
    epoch: int
    publics: tuple[bytes, ...]

    @classmethod
    def first(cls, genesis: Genesis) -> "Members":
        """Return the members of epoch 0."""
        return cls(genesis, 0, genesis.publics)

    def objection(self, certificate: Bundle) -> str:
        """Say why a bundle is no certificate of this epoch; empty when it is one."""
        if certificate.epoch != self.epoch:
            return f"its certificate is of epoch {certificate.epoch}, not {self.epoch}"
        places = [place for place, key in enumerate(self.publics) if key]
        signers = signers_from_bytes(certificate.signers, len(self.publics))
        quorums = find(self.genesis.protocol).quorums(Regions(self.genesis.regions).covering(places).members)
        if not quorums.is_quorum(signers) or any(not self.publics[signer] for signer in members_of(signers)):
            return f"{signers.bit_count()} of {len(places)} members signed, which is no quorum"
        about = statement(
            self.genesis.chain,
            certificate.phase,
            certificate.epoch,
            certificate.view,
            certificate.seq,
            certificate.digest,
        )
        if len(certificate.signature) != _SIGNATURE * signers.bit_count():
            return "its certificate holds another number of signatures than signers"
        for index, signer in enumerate(members_of(signers)):
            signature = certificate.signature[index * _SIGNATURE : (index + 1) * _SIGNATURE]
            if not verify_with(self.publics[signer], about, signature):
                return f"the signature of replica {signer} is not valid"
        return ""

    def block_objection(self, block: Block) -> str:
        """Say why a block was not decided by these members; empty when it was."""
        certificate = decode_as(Bundle, block.certificate)
        if certificate is None:
            return "its certificate cannot be read"
        deciding = PREPARE if find(self.genesis.protocol).fast else COMMIT
        about = certificate.phase, certificate.epoch, certificate.view, certificate.seq, certificate.digest
        if about != (deciding, block.epoch, block.view, block.seq, block.digest):
            return "its certificate is of another decision"
        if batch_digest(block.batch) != block.digest:
            return "its requests are not those that were voted for"
        batch = decode_batch(block.batch) if block.batch else None
        requests = block.requests()
        if block.batch and (batch is None or len(requests) != len(batch.requests)):
            return "its requests cannot be read"
        for request in requests:
            about_request = request_statement(self.genesis.chain, request.timestamp, request.operation)
            if not verify_with(request.client, about_request, request.signature):
                return "a request was not signed by its client"
        return self.objection(certificate)

    def next(self, block: Block, before: Block) -> "Members | str":
        """Follow a hand-off to the next epoch, or say why it proves nothing.

        Parameters
        ----------
        block, before : Block
            The first block of the epoch, and the one before it.
        """
        try:
            handoff = msgspec.msgpack.decode(block.handoff, type=Handoff)
        except (msgspec.MsgspecError, ValueError):
            return "the proof of its epoch's members cannot be read"
        header, certificate = decode_header(handoff.header), handoff.certificate
        if header is None or header.epoch != self.epoch + 1:
            return f"no proof that epoch {self.epoch + 1} follows"
        if certificate.phase != CHECKPOINT or certificate.seq != before.seq or header.seq != before.seq:
            return f"epoch {self.epoch + 1} does not begin after block {before.height}"
        if state_digest(handoff.header, handoff.rest) != certificate.digest:
            return "the member list is not the one that was voted for"
        return self.objection(certificate) or Members(self.genesis, header.epoch, header.members)


@dataclass(frozen=True)
class Checked:
    """What checking a chain came to.

    Attributes
    ----------
    blocks, signatures : int
        How many were good.
    epochs : int
        How many there are.
    head : bytes
        Hash of the last good block; the chain's name before the first.
    bad : int or None
        Height of the first block that is not good.
    why : str
        What is wrong with it.
    """

    blocks: int
    signatures: int
    epochs: int
    head: bytes
    bad: int | None = None
    why: str = ""


def verify(blocks: Iterable[Block], genesis: Genesis) -> Checked:
    """Check a chain of blocks against its genesis: order, hashes, requests, certificates, epochs.

    Returns
    -------
    Checked
        Up to the first bad block, or to the end.
    """
    members, before = Members.first(genesis), None
    checked = Checked(0, 0, 1, genesis.chain)
    for place, block in enumerate(blocks, start=1):
        why = _misplaced(block, before, place, genesis.chain)
        if not why and before is not None and block.epoch > before.epoch:
            following = members.next(block, before)
            members, why = (members, following) if isinstance(following, str) else (following, "")
        elif not why and block.handoff:
            why = "it holds the proof of a new epoch, and begins none"
        why = why or members.block_objection(block)
        if why:
            return replace(checked, bad=place, why=why)
        certificate = decode_as(Bundle, block.certificate)
        assert certificate is not None
        signed = int.from_bytes(certificate.signers, "little").bit_count()
        checked = Checked(place, checked.signatures + signed, members.epoch + 1, block.hash)
        before = block
    return checked


def _misplaced(block: Block, before: Block | None, place: int, chain: bytes) -> str:
    if block.height != place:
        return f"it says it is block {block.height}"
    if block.previous != (chain if before is None else before.hash):
        return "it does not follow the block before it"
    if block.seq != (1 if before is None else before.seq + 1):
        return f"it has number {block.seq}, which does not follow"
    return ""


class Ledger:
    """The blocks of one chain in a folder, appended durably.

    Parameters
    ----------
    folder : Path
        Holds, or is to hold, ``ledger.jsonl``.

    Attributes
    ----------
    blocks : list of Block
        All blocks in the file.

    Raises
    ------
    InputError
        If a line other than an incomplete last one cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self.blocks = list(read(folder)) if self.path.exists() else []

    def append(self, block: Block) -> None:
        """Append a block, durably; one that is there already must be the same, to the bit.

        Raises
        ------
        LedgerError
            If another block has its height, or the one before it is missing.
        DiskFullError
            If the disk is full; the ledger is as it was.
        """
        if block.height <= len(self.blocks):
            if self.blocks[block.height - 1] != block:
                raise LedgerError(f"{self.path}: block {block.height} was decided differently before")
            return
        if block.height != len(self.blocks) + 1:
            raise LedgerError(
                f"{self.path}: ends with block {len(self.blocks)}, so block {block.height} cannot follow"
            )
        try:
            self._write(msgspec.json.encode(block) + b"\n")
        except OSError as error:
            raise disk_error(self.path, error) from error
        self.blocks.append(block)

    def _write(self, line: bytes) -> None:
        fresh = not self.path.exists()
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash cut the last line short
                size = os.pread(descriptor, size, 0).rfind(b"\n") + 1
                os.ftruncate(descriptor, size)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(self.path.parent)


class LedgerError(FedshardError):
    """The ledger does not fit what the council decides."""


def read(folder: Path) -> Iterator[Block]:
    """Read the blocks of a folder's ledger; an incomplete last line, of a crash, is left out.

    Raises
    ------
    InputError
        If there is no ledger, or a line is no block.
    """
    path = folder / LEDGER
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder}: no {LEDGER}, so there is no council's ledger here") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            yield msgspec.json.decode(line, type=Block)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: line {number} is damaged, no block: {error}") from error
