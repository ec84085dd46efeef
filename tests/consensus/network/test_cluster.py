import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from delay_proxy import delaying
from echo import founded

from consensus.messages import Reply, Request, decode_as, encode
from consensus.network import cluster as clusters
from consensus.network.client import Client, UnansweredError, closed_loop, connected_clients
from consensus.network.cluster import Cluster, ClusterError, even_regions, free_ports
from consensus.network.genesis import GENESIS, LOG
from consensus.network.measure import check_history, measure
from consensus.network.node import Journal

PATIENT = {"view": 40.0, "fallback": 10.0, "bundle": 10.0}  # however slow this machine is, no timer runs out


def node(folder, *options):
    command = [sys.executable, "-m", "consensus.network.node", folder, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_a_node_with_bad_input_says_so_in_one_line(tmp_path):
    genesis = founded(tmp_path, 2)
    run = node(tmp_path / "0")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "genesis.json: the genesis cannot be read" in run.stderr
    founded(tmp_path / "elsewhere", 1).write(tmp_path / "0" / GENESIS)
    assert "signing.pem: no member of the genesis has this key" in node(tmp_path / "0").stderr
    founded(tmp_path / "third", 1, application="nowhere:Nothing").write(tmp_path / "third" / "0" / GENESIS)
    assert "application 'nowhere:Nothing' cannot be made" in node(tmp_path / "third" / "0").stderr
    genesis.write(tmp_path / "0" / GENESIS)
    (tmp_path / "0" / LOG).write_text("no log at all\n" * 500)
    assert "log.sqlite: this file is no log" in node(tmp_path / "0").stderr
    assert "is not HOST:PORT" in node(tmp_path / "0", "--listen", "8080").stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends orphans on Linux alone")
def test_no_replica_outlives_the_process_that_started_it(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from consensus.network.cluster import Cluster\n"
        f"with Cluster(Path({str(tmp_path)!r}), 2, 'flat') as cluster:\n"
        "    print(*(process.pid for process in cluster._processes.values()), flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.01)
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110


def test_a_process_that_cannot_start_is_named_with_what_it_said(tmp_path):
    with (
        pytest.raises(ClusterError, match=r"replica \d did not start: genesis: application 'no:No' cannot be made"),
        Cluster(tmp_path, 2, "flat", application="no:No"),
    ):
        pass


def test_a_port_taken_meanwhile_is_replaced(tmp_path, monkeypatch):
    (taken,) = free_ports(1)
    offered = [[taken, *free_ports(1)], free_ports(2)]
    monkeypatch.setattr(clusters, "free_ports", lambda count: offered.pop(0))

    async def hold():
        return await asyncio.start_server(lambda reader, writer: None, clusters.HOST, taken)

    with asyncio.Runner() as runner:
        server = runner.run(hold())
        with Cluster(tmp_path, 2, "flat") as cluster:
            assert taken not in cluster.ports
        server.close()


def test_regions_are_cut_evenly():
    assert even_regions(7, 2) == ((0, 1, 2), (3, 4, 5, 6))
    assert even_regions(4, 1) == ((0, 1, 2, 3),)


def test_a_history_with_a_hole_or_a_repetition_is_noticed():
    journal = Journal()
    results = [journal.execute(b"") for _ in range(5)]
    check_history(tuple(reversed(results)))
    for broken in (results[:2] + results[3:], [*results, results[1]], [*results[:4], results[4][:-1] + b"x"]):
        with pytest.raises(ClusterError, match="agreement is broken"):
            check_history(tuple(broken))


@pytest.mark.parametrize(("protocol", "k", "votes"), [("flat", 1, 24), ("regional", 2, 3 + 8 + 4)])
def test_four_processes_agree_and_send_as_many_votes_as_the_formula_says(protocol, k, votes):
    measured = measure(4, protocol, clients=1, rounds=40, k=k, timing=PATIENT)
    assert measured.decisions == 40
    assert measured.messages["vote"] == 40 * votes, measured.messages
    assert measured.bound == 1
    assert 0 < measured.p50 <= measured.p95 <= measured.p99


def test_a_replica_killed_in_mid_load_catches_up_and_nothing_is_lost():
    measured = measure(4, "flat", clients=8, rounds=300, kill=True, timing=PATIENT)
    assert measured.killed == 3
    assert measured.operations == 300
    assert measured.longest_gap < PATIENT["view"]
    assert measured.messages.get("view", 0) == 0


def test_a_leader_killed_in_mid_load_is_replaced():
    timing = {"view": 0.4, "fallback": 0.1, "status": 0.1}
    measured = measure(4, "flat", clients=4, rounds=90, kill=True, victim=0, timing=timing)
    assert measured.messages["view"] > 0


def test_a_whole_council_that_is_killed_at_once_forgets_nothing(tmp_path):
    async def load(cluster, clients=2, operations=10):
        connected = await connected_clients(cluster.genesis, clients)
        done = await closed_loop(connected, operations)
        for client in connected:
            await client.close()
        return done.results

    with Cluster(tmp_path, 4, "flat") as cluster:
        results = asyncio.run(load(cluster))
        for place in range(4):
            cluster.kill(place)
        for place in range(4):
            cluster.start(place)
        for place in range(4):
            cluster.wait(place)
        results += asyncio.run(load(cluster))
        check_history(results)
        executed = {status.executed for status in cluster.stop()}
    assert max(executed) >= 20 / 2


def test_a_paused_replica_is_waited_for_by_nobody(tmp_path):
    async def play(cluster):
        (client,) = await connected_clients(cluster.genesis, 1)
        cluster.signal(2, signal.SIGSTOP)
        done = await closed_loop([client], 20)
        cluster.signal(2, signal.SIGCONT)
        await client.close()
        return done

    with Cluster(tmp_path, 4, "flat", timing=PATIENT) as cluster:
        done = asyncio.run(play(cluster))
    assert max(done.latencies) < PATIENT["fallback"]
    check_history(done.results)


def test_a_client_believes_no_single_replica_and_says_who_answered(tmp_path):
    """Replica 0 alone, and lying, never satisfies a client; two that agree do."""
    genesis = founded(tmp_path, 4)
    client = Client(genesis, Ed25519PrivateKey.generate(), patience=0.05)

    async def play():
        sent = []
        for place, link in enumerate(client._links):
            link.flush = lambda: None
            link.send = lambda framed, place=place: sent.append((place, framed))
        waiting = asyncio.create_task(client.submit(b"x", seconds=0.2))
        await asyncio.sleep(0.02)
        assert [place for place, _ in sent] == [0]
        request = decode_as(Request, sent[0][1][4:])
        for _ in range(3):
            client._hearing(0)(encode(Reply(client.public, request.timestamp, 0, 0, b"lie", b"")))
        client._hearing(1)(encode(Reply(client.public, request.timestamp, 0, 2, b"lie", b"")))
        client._hearing(2)(encode(Reply(client.public, request.timestamp - 1, 0, 2, b"lie", b"")))
        client._hearing(3)(b"rubbish")
        with pytest.raises(UnansweredError, match="0 are connected, 1 gave the same result"):
            await waiting
        assert {place for place, _ in sent} == {0, 1, 2, 3}
        answer = asyncio.create_task(client.submit(b"y"))
        await asyncio.sleep(0)
        timestamp = client._timestamp
        for place, result in ((0, b"lie"), (1, b"truth"), (2, b"truth")):
            client._hearing(place)(encode(Reply(client.public, timestamp, 3, place, result, b"")))
        assert await answer == b"truth"
        sent.clear()
        again = asyncio.create_task(client.submit(b"z"))
        await asyncio.sleep(0)
        assert [place for place, _ in sent] == [3]  # the leader of the view that two of them are in
        again.cancel()

    asyncio.run(play())


def test_the_proxy_delays_each_way():
    async def play():
        async def echo(reader, writer):
            writer.write(await reader.read(10))

        listen, target = free_ports(2)
        async with await asyncio.start_server(echo, clusters.HOST, target), await delaying(listen, target, 0.03):
            reader, writer = await asyncio.open_connection(clusters.HOST, listen)
            began = time.perf_counter()
            writer.write(b"x")
            assert await reader.read(10) == b"x"
            assert 0.06 <= time.perf_counter() - began < 0.09
            writer.close()

    asyncio.run(play())


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), [(7, 1), (16, 1), (16, 4)])
@pytest.mark.parametrize("protocol", ["flat", "regional", "star", "two-layer"])
def test_more_processes_agree_though_one_is_killed(n, k, protocol):
    measured = measure(n, protocol, clients=20, rounds=300, kill=True, k=k)
    assert measured.operations == 300
