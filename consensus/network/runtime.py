"""Drives a state machine with sockets, timers and a durable log: read, step, persist, then send.

All messages that one turn of the event loop read are stepped through together; what they persist is one commit with
one sync, and only then is anything sent. Under load, batches grow by themselves and the sync is shared.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from consensus.log import Log
from consensus.machine import (
    Answer,
    CancelTimer,
    Decided,
    Effect,
    Event,
    Fired,
    Forget,
    Noted,
    Persist,
    Received,
    Send,
    SetTimer,
    StateMachine,
    Timer,
)
from consensus.network.frames import frame
from consensus.network.genesis import TRANSPORT_KEY, Genesis
from consensus.network.links import PATIENCE, Door, Link, Visitor, client_context, server_context
from shards.errors import InputError


class Runtime:
    """One replica on a network.

    Parameters
    ----------
    genesis : Genesis
        The chain.
    own : int
        The replica's place.
    folder : Path
        Holds its transport key.
    machine : StateMachine
        The replica itself; it takes back what `log` holds before it starts.
    log : Log
        Its durable log.
    observe : callable
        Hears every `Decided` and `Noted`, after it is durable.

    Attributes
    ----------
    sent : dict
        Messages and bytes sent, counted once per receiver, by kind.
    """

    def __init__(
        self,
        genesis: Genesis,
        own: int,
        folder: Path,
        machine: StateMachine,
        log: Log,
        observe: Callable[[Decided | Noted], None],
    ) -> None:
        identity = folder / TRANSPORT_KEY
        self._machine, self._log, self._observe = machine, log, observe
        self._context = server_context(genesis, identity)
        self._links = {
            place: Link(peer, client_context(peer, identity))
            for place, peer in enumerate(genesis.members)
            if place != own
        }
        self._door = Door(genesis, own, self._received)
        self._inbox: list[Event] = []  # read, not stepped through yet; emptied on every turn of the loop
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._due: set[Timer] = set()  # ran out, and in the inbox; cancelled or set again, they count for nothing
        self._done: asyncio.Future[None] | None = None
        self.sent: dict[str, list[int]] = {}

    @property
    def dropped(self) -> int:
        """Messages that were never written since too many waited for a peer."""
        return sum(link.dropped for link in self._links.values())

    async def run(self, host: str, port: int, ready: Callable[[], None]) -> None:
        """Listen, connect to all others, and run until `stop` or a failure.

        Parameters
        ----------
        host, port : str, int
            Where to listen.
        ready : callable
            Called once, when connections are accepted.

        Raises
        ------
        InputError
            If the address cannot be listened at.
        DiskFullError, LogError
            If something could not be made durable; nothing that depends on it was sent.
        """
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        try:
            server = await loop.create_server(
                lambda: Visitor(self._door), host, port, ssl=self._context, ssl_handshake_timeout=PATIENCE
            )
        except OSError as error:
            raise InputError(f"{host}:{port} cannot be listened at ({error.strerror}); is it in use?") from error
        keeping = [asyncio.create_task(link.keep()) for link in self._links.values()]
        try:
            self._machine.recover(self._log.records())
            self._carry_out(self._timed(self._machine.start()))
            ready()
            await self._done
        finally:
            server.close()
            for handle in self._timers.values():
                handle.cancel()
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            self._door.close()

    def stop(self) -> None:
        """End `run` once what is under way is carried out."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _received(self, sender: int, messages: list[bytes]) -> None:
        self._take([Received(sender, data) for data in messages])

    def _take(self, events: list[Event]) -> None:
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._turn)
        self._inbox += events

    def _turn(self) -> None:
        assert self._done is not None
        if self._done.done():
            return
        events, self._inbox = self._inbox, []
        effects: list[Effect] = []
        try:
            for event in events:
                if isinstance(event, Fired):
                    if event.timer not in self._due:
                        continue
                    self._due.discard(event.timer)
                effects += self._timed(self._machine.step(event))
            self._carry_out(effects)
        except Exception as error:  # whatever it is, a replica whose state is in doubt must end, not go on
            self._done.set_exception(error)

    def _timed(self, effects: list[Effect]) -> list[Effect]:
        """Set and cancel timers at once: a timer that ran out meanwhile may be among the events to come."""
        for effect in effects:
            if isinstance(effect, SetTimer | CancelTimer):
                self._due.discard(effect.timer)
                if (handle := self._timers.pop(effect.timer, None)) is not None:
                    handle.cancel()
                if isinstance(effect, SetTimer):
                    loop = asyncio.get_running_loop()
                    self._timers[effect.timer] = loop.call_later(effect.seconds, self._fire, effect.timer)
        return effects

    def _fire(self, timer: Timer) -> None:
        del self._timers[timer]
        self._due.add(timer)
        self._take([Fired(timer)])

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        self._persist([effect for effect in effects if isinstance(effect, Persist | Forget)])
        touched: dict[int, Link] = {}
        for effect in effects:
            match effect:
                case Send():
                    framed = frame(effect.data)
                    count = self.sent.setdefault(effect.kind, [0, 0])
                    for place in effect.to:
                        if (link := self._links.get(place)) is not None:
                            link.send(framed)
                            touched[place] = link
                            count[0] += 1
                            count[1] += len(framed)
                case Answer():
                    self._door.answer(effect.client, effect.data)
                case Decided() | Noted():
                    self._observe(effect)
        for link in touched.values():
            link.flush()

    def _persist(self, changes: list[Persist | Forget]) -> None:
        if not changes:
            return
        with self._log.transaction():
            for kind, group in groupby(changes, key=type):
                if kind is Persist:
                    self._log.append([(change.seq, change.record) for change in group if isinstance(change, Persist)])
                else:
                    for change in group:
                        self._log.forget(change.seq)
