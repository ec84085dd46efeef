"""A tiny state machine and a network of runtimes in one process, to test what surrounds a real replica."""

import asyncio
import contextlib

from consensus.log import Log
from consensus.machine import Answer, CancelTimer, Fired, Noted, Persist, Received, Send, SetTimer
from consensus.network.cluster import free_ports
from consensus.network.genesis import LOG, Genesis
from consensus.network.identities import new_member
from consensus.network.runtime import Runtime


class Echo:
    """Passes on what clients say to all others, after it is durable; answers the client once a timer ran out.

    What a client says starts with its public key. ``cancel`` after the key takes the timer back.
    """

    def __init__(self, own, n):
        self.others = tuple(place for place in range(n) if place != own)
        self.heard, self.recovered, self.fired = [], None, []

    def recover(self, records):
        self.recovered = records

    def start(self):
        return [Noted("started", 0)]

    def step(self, event):
        if isinstance(event, Fired):
            self.fired.append(event.timer)
            client = bytes.fromhex(event.timer[1])
            return [Answer(client, client)]
        assert isinstance(event, Received)
        self.heard.append((event.sender, event.data))
        if event.sender >= 0:
            return []
        client, said = event.data[:32], event.data[32:]
        if said == b"fail":
            raise RuntimeError("a broken machine")
        timer = ("answer", client.hex())
        then = CancelTimer(timer) if said == b"cancel" else SetTimer(timer, 0.01)
        return [Persist(len(self.heard), event.data), then, Send(self.others, event.data, "echo")]


def founded(folder, n, application="consensus.network.node:Journal", protocol="flat", **fields):
    """Make the folders and the genesis of n replicas."""
    members = [
        new_member(folder / str(place), f"r{place}", "127.0.0.1", port) for place, port in enumerate(free_ports(n))
    ]
    return Genesis(protocol, application, tuple(members), **fields)


class Echoes:
    """n runtimes in this event loop, each with an `Echo`."""

    def __init__(self, folder, n):
        self.folder, self.genesis = folder, founded(folder, n)
        self.machines = [Echo(place, n) for place in range(n)]
        self.logs, self.runtimes, self.tasks = {}, {}, {}

    async def start(self, place):
        log = self.logs[place] = Log(self.folder / str(place) / LOG)
        runtime = Runtime(
            self.genesis, place, self.folder / str(place), self.machines[place], log, lambda effect: None
        )
        ready = asyncio.Event()
        member = self.genesis.members[place]
        self.runtimes[place] = runtime
        self.tasks[place] = asyncio.create_task(runtime.run(member.host, member.port, ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((waiting, self.tasks[place]), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return runtime

    async def stop(self, place):
        self.runtimes[place].stop()
        try:
            await self.tasks[place]
        finally:
            self.logs[place].close()

    @contextlib.asynccontextmanager
    async def running(self):
        for place in range(len(self.machines)):
            await self.start(place)
        try:
            yield self
        finally:
            for place in self.tasks:
                if not self.tasks[place].done():
                    await self.stop(place)
                self.logs[place].close()


async def until(condition, seconds=10.0):
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
