import asyncio
import os
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from echo import Echo, Echoes, founded, until

from consensus.log import Log
from consensus.machine import CancelTimer, Fired, Forget, Noted, Persist, SetTimer
from consensus.network import links
from consensus.network.client import ClientLink
from consensus.network.frames import frame
from consensus.network.genesis import LOG, TRANSPORT_KEY, public_bytes
from consensus.network.identities import new_member
from consensus.network.links import Link, client_context, hello_statement
from consensus.network.runtime import Runtime
from shards.disk import DiskFullError
from shards.errors import InputError


class Speaker:
    """A client's connection to one replica."""

    def __init__(self, genesis, place, signs_for=None):
        self.key, self.heard = Ed25519PrivateKey.generate(), []
        self.public = public_bytes(self.key)
        named = place if signs_for is None else signs_for

        def hello(challenge):
            return self.public + self.key.sign(hello_statement(genesis.chain, named, challenge))

        member = genesis.members[place]
        self.link = ClientLink(member, client_context(member), hello, self.heard.append)
        self.keeping = asyncio.create_task(self.link.keep())

    def say(self, *words):
        for word in words:
            self.link.send(frame(self.public + word))
        self.link.flush()

    async def close(self):
        self.keeping.cancel()
        await asyncio.gather(self.keeping, return_exceptions=True)


def with_echoes(tmp_path, n, play):
    async def run():
        async with Echoes(tmp_path, n).running() as echoes:
            await play(echoes)

    asyncio.run(run())


def test_what_a_client_says_reaches_all_others_and_is_answered(tmp_path):
    async def play(echoes):
        speaker = Speaker(echoes.genesis, 1)
        speaker.say(b"hello")
        await until(lambda: speaker.heard)
        await until(lambda: all((1, speaker.public + b"hello") in echoes.machines[p].heard for p in (0, 2)))
        assert speaker.heard == [speaker.public]
        assert echoes.machines[1].heard == [(-1, speaker.public + b"hello")]
        assert echoes.runtimes[1].sent == {"echo": [2, 2 * (4 + 32 + 5)]}
        await speaker.close()

    with_echoes(tmp_path, 3, play)


def test_a_cancelled_timer_does_not_fire(tmp_path):
    async def play(echoes):
        speaker = Speaker(echoes.genesis, 0)
        speaker.say(b"one", b"cancel")
        await until(lambda: len(echoes.machines[0].heard) == 2)
        await asyncio.sleep(0.1)
        assert echoes.machines[0].fired == []
        await speaker.close()

    with_echoes(tmp_path, 2, play)


def test_messages_survive_a_peer_that_is_down_and_a_restart_takes_back_the_log(tmp_path):
    async def play(echoes):
        await echoes.stop(1)
        speaker = Speaker(echoes.genesis, 0)
        speaker.say(b"a", b"b")
        await until(lambda: speaker.heard)
        await echoes.start(1)
        await until(lambda: len(echoes.machines[1].heard) == 2)
        await echoes.stop(0)
        echoes.machines[0] = Echo(0, 2)
        await echoes.start(0)
        assert echoes.machines[0].recovered == [speaker.public + b"a", speaker.public + b"b"]
        await speaker.close()

    with_echoes(tmp_path, 2, play)


def test_everything_read_in_one_turn_is_one_commit_and_nothing_is_sent_before_it(tmp_path):
    async def play(echoes):
        runtime, log, order = echoes.runtimes[0], echoes.logs[0], []
        log._db.set_trace_callback(lambda statement: order.append(statement) if "COMMIT" in statement else None)
        for link in runtime._links.values():
            link.send = lambda framed: order.append("send")
        runtime._received(-1, [bytes(32) + b"%d" % number for number in range(50)])
        assert order == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == ["COMMIT"] + ["send"] * 50
        assert len(log.records()) == 50

    with_echoes(tmp_path, 2, play)


class Ticker:
    """Sets a timer, and takes it back or sets it anew when a message arrives."""

    def __init__(self, then):
        self.then, self.fired = then, 0

    def recover(self, records):
        pass

    def start(self):
        return [SetTimer(("tick",), 0.02)]

    def step(self, event):
        if isinstance(event, Fired):
            self.fired += 1
            return [Noted("tick", self.fired)]
        return [self.then]


@pytest.mark.parametrize("then", [CancelTimer(("tick",)), SetTimer(("tick",), 60.0)])
def test_a_timer_taken_back_by_an_event_ahead_of_it_in_the_same_turn_does_not_fire(tmp_path, then):
    genesis, machine = founded(tmp_path, 1), Ticker(then)

    async def run():
        with Log(tmp_path / "0" / LOG) as log:
            runtime = Runtime(genesis, 0, tmp_path / "0", machine, log, lambda effect: None)
            task = asyncio.create_task(runtime.run("127.0.0.1", genesis.members[0].port, lambda: None))
            await until(lambda: runtime._timers)
            handle = runtime._timers["tick",]
            runtime._received(-1, [b"first in the inbox"])
            handle.cancel()
            runtime._fire(("tick",))  # it ran out after that was read, before it was stepped through
            await asyncio.sleep(0.1)
            assert machine.fired == 0
            runtime.stop()
            await task

    asyncio.run(run())


def test_a_machine_that_fails_ends_its_replica(tmp_path):
    async def play(echoes):
        speaker = Speaker(echoes.genesis, 0)
        speaker.say(b"fail")
        with pytest.raises(RuntimeError, match="a broken machine"):
            await echoes.tasks[0]
        await speaker.close()

    with_echoes(tmp_path, 2, play)


def test_a_full_disk_ends_the_replica_before_it_sends(tmp_path):
    async def play(echoes):
        pages = echoes.logs[0]._db.execute("PRAGMA page_count").fetchone()[0]
        echoes.logs[0]._db.execute(f"PRAGMA max_page_count = {pages}")
        speaker = Speaker(echoes.genesis, 0)
        speaker.say(bytes(100_000))
        with pytest.raises(DiskFullError, match=r"log\.sqlite: disk full"):
            await echoes.tasks[0]
        assert echoes.machines[1].heard == []
        assert echoes.runtimes[0].sent == {}
        await speaker.close()

    with_echoes(tmp_path, 2, play)


def test_an_address_in_use_is_one_line(tmp_path):
    async def play(echoes):
        with Log(tmp_path / "other") as log:
            runtime = Runtime(echoes.genesis, 0, tmp_path / "0", Echo(0, 2), log, lambda effect: None)
            with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+ cannot be listened at .*; is it in use"):
                await runtime.run("127.0.0.1", echoes.genesis.members[1].port, lambda: None)

    with_echoes(tmp_path, 2, play)


async def raw(genesis, place, context=None):
    member = genesis.members[place]
    return await asyncio.open_connection(member.host, member.port, ssl=context or client_context(member))


async def is_cut_off(reader):
    """Whether the other side ends the connection (with or without a word)."""
    try:
        async with asyncio.timeout(5):
            while await reader.read(1000):
                pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def test_a_peer_with_another_key_is_refused(tmp_path):
    async def play(echoes):
        stranger = new_member(tmp_path / "stranger", "r1", "127.0.0.1", echoes.genesis.members[1].port)
        context = client_context(echoes.genesis.members[0], tmp_path / "stranger" / TRANSPORT_KEY)
        with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):  # noqa: PT012
            reader, writer = await raw(echoes.genesis, 0, context)
            writer.write(frame(b"I am r1"))
            await reader.readexactly(1)
        assert echoes.machines[0].heard == []
        with pytest.raises(ssl.SSLCertVerificationError):
            await raw(echoes.genesis, 1, client_context(stranger))

    with_echoes(tmp_path, 2, play)


def test_a_replica_does_not_speak_to_whoever_took_a_peers_address(tmp_path):
    async def run():
        genesis = founded(tmp_path, 2)
        member = genesis.members[1]
        new_member(tmp_path / "stranger", "r1", member.host, member.port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "stranger" / TRANSPORT_KEY)
        heard = []

        async def listen(reader, writer):
            heard.append(await reader.read(100))

        async with await asyncio.start_server(listen, member.host, member.port, ssl=context):
            link = Link(member, client_context(member, tmp_path / "0" / TRANSPORT_KEY))
            link.send(frame(b"secret"))
            keeping = asyncio.create_task(link.keep())
            await asyncio.sleep(0.3)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        assert heard == []

    asyncio.run(run())


def test_older_tls_is_refused(tmp_path):
    async def play(echoes):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await raw(echoes.genesis, 0, context)

    with_echoes(tmp_path, 1, play)


def hello(key, genesis, place, challenge):
    return public_bytes(key) + key.sign(hello_statement(genesis.chain, place, challenge))


@pytest.mark.parametrize(
    "answer",
    [
        lambda key, genesis, challenge: os.urandom(96),
        lambda key, genesis, challenge: hello(key, genesis, 1, challenge),
        lambda key, genesis, challenge: hello(key, genesis, 0, bytes(32)),
    ],
    ids=["random", "made for another replica", "made for another challenge"],
)
def test_a_client_that_does_not_prove_its_key_is_cut_off_and_not_heard(tmp_path, answer):
    async def play(echoes):
        reader, writer = await raw(echoes.genesis, 0)
        challenge = (await reader.readexactly(36))[4:]
        key = Ed25519PrivateKey.generate()
        writer.write(answer(key, echoes.genesis, challenge) + frame(b"do something"))
        assert await is_cut_off(reader)
        assert echoes.machines[0].heard == []

    with_echoes(tmp_path, 2, play)


def test_a_silent_client_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "PATIENCE", 0.1)

    async def play(echoes):
        reader, _ = await raw(echoes.genesis, 0)
        assert await is_cut_off(reader)

    with_echoes(tmp_path, 1, play)


def test_clients_beyond_the_limit_are_turned_away_and_replicas_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "CLIENTS", 2)

    async def play(echoes):
        await until(lambda: len(echoes.runtimes[0]._door.members) == 1)
        held = [await raw(echoes.genesis, 0) for _ in range(2)]
        for reader, _ in held:
            await reader.readexactly(36)
        reader, _ = await raw(echoes.genesis, 0)
        assert await reader.read(1) == b""
        await echoes.stop(1)
        await echoes.start(1)
        await until(lambda: len(echoes.runtimes[0]._door.members) == 1)

    with_echoes(tmp_path, 2, play)


def test_a_frame_above_the_limit_ends_the_connection(tmp_path):
    async def play(echoes):
        reader, writer = await raw(echoes.genesis, 0)
        challenge = (await reader.readexactly(36))[4:]
        key = Ed25519PrivateKey.generate()
        writer.write(hello(key, echoes.genesis, 0, challenge) + b"\xff\xff\xff\xff")
        assert await is_cut_off(reader)
        await until(lambda: not echoes.runtimes[0]._door.clients)

    with_echoes(tmp_path, 1, play)


def test_the_newer_connection_of_a_client_gets_its_replies(tmp_path):
    async def play(echoes):
        first = Speaker(echoes.genesis, 0)
        await until(lambda: echoes.runtimes[0]._door.clients)
        second = Speaker(echoes.genesis, 0)
        second.key, second.public = first.key, first.public
        await first.close()
        second.say(b"hello")
        await until(lambda: second.heard)
        assert second.heard == [first.public]
        await second.close()

    with_echoes(tmp_path, 1, play)


def test_too_many_messages_for_a_peer_that_is_down_drop_the_oldest(tmp_path, monkeypatch):
    genesis = founded(tmp_path, 1)
    monkeypatch.setattr(links, "QUEUE", 100)
    link = Link(genesis.members[0], client_context(genesis.members[0]))
    for number in range(12):
        link.send(b"%02d" % number * 10)
    assert link.dropped == 7
    assert [data[:2] for data in link._waiting] == [b"07", b"08", b"09", b"10", b"11"]
    link.send(bytes(500))
    assert [len(data) for data in link._waiting] == [500]


def test_a_bad_certificate_or_key_file_is_one_line(tmp_path):
    genesis = founded(tmp_path, 1)
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(InputError, match=r"empty\.pem: no private key with its certificate"):
        client_context(genesis.members[0], tmp_path / "empty.pem")
    bad = type(genesis.members[0])("bad", "00" * 32, "AAAA", "127.0.0.1", 1)
    with pytest.raises(InputError, match="the certificate of bad cannot be used"):
        client_context(bad)


def test_persist_and_forget_keep_their_order(tmp_path):
    async def play(echoes):
        echoes.runtimes[0]._carry_out(
            [Persist(1, b"a"), Persist(2, b"b"), Forget(1), Persist(1, b"c"), Noted("x", 0), Persist(3, b"d")]
        )
        assert echoes.logs[0].records() == [b"b", b"c", b"d"]

    with_echoes(tmp_path, 1, play)
