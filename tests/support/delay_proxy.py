"""A TCP proxy that lets every byte arrive a fixed time later, in either direction."""

import asyncio
import collections


class Half(asyncio.Protocol):
    """One side of a proxied connection; what it reads goes to `other` after the delay."""

    def __init__(self, delay, connect=None):
        self.delay, self.connect = delay, connect
        self.other, self.transport, self.waiting = None, None, collections.deque()

    def connection_made(self, transport):
        self.transport = transport
        while self.waiting:
            transport.write(self.waiting.popleft())
        if self.connect is not None:
            self.connecting = asyncio.create_task(self.connect(self))

    def data_received(self, data):
        asyncio.get_running_loop().call_later(self.delay, self.pass_on, data)

    def pass_on(self, data):
        if self.other is None:
            asyncio.get_running_loop().call_later(0.001, self.pass_on, data)
        else:
            self.other.write(data)

    def write(self, data):
        if self.transport is None:
            self.waiting.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def connection_lost(self, exception):
        if self.other is not None and self.other.transport is not None:
            asyncio.get_running_loop().call_later(self.delay, self.other.transport.close)


async def delaying(listen, target, seconds, host="127.0.0.1"):
    """Listen at one port and pass everything on to another, so many seconds later each way; returns the server."""
    loop = asyncio.get_running_loop()

    async def connect(near):
        try:
            _, far = await loop.create_connection(lambda: Half(seconds), host, target)
        except OSError:
            near.transport.abort()
            return
        near.other, far.other = far, near

    return await loop.create_server(lambda: Half(seconds, connect), host, listen)
