import pytest

from consensus.machine import CancelTimer, Fired, Forget, Persist, Received, Send, SetTimer
from consensus.simulation.costs import SERVER
from consensus.simulation.events import Observer, Simulation
from consensus.simulation.network import Network, nanos, uniform
from consensus.simulation.trace import Trace


class Script:
    """Answers events as a function says; keeps what it saw."""

    def __init__(self, answer, begin=()):
        self.answer, self.begin, self.seen, self.records = answer, list(begin), [], None

    def start(self):
        return self.begin

    def recover(self, records):
        self.records = records

    def step(self, event):
        self.seen.append(event)
        return list(self.answer(event) or ())


class Watch(Observer):
    def __init__(self):
        self.log = []

    def leaves(self, now, node, send):
        self.log.append((now, node.index, "sends", send.data))

    def persisted(self, now, node, record):
        self.log.append((now, node.index, "keeps", getattr(record, "record", record.seq)))


def simulation(scripts, rtt=0.02, **options):
    watch = Watch()
    network = Network(len(scripts) + 1, uniform(rtt))
    return Simulation(
        lambda index, meter: scripts[index](), len(scripts), network, observers=[watch], **options
    ), watch


def quiet():
    return Script(lambda event: ())


def says(*effects):
    return lambda: Script(lambda event: (), effects)


def test_a_message_arrives_after_half_a_round_trip_and_names_its_sender():
    sim, _ = simulation([says(Send((1,), b"hello", "vote")), quiet])
    sim.start()
    sim.run(1)
    assert sim.nodes[1].machine.seen == [Received(0, b"hello")]
    assert sim.sent == {"vote": [1, 5]}


def test_what_happens_at_the_same_time_happens_in_the_order_in_which_it_was_sent():
    sim, _ = simulation([says(Send((1,), b"first", "vote"), Send((1,), b"second", "vote")), quiet])
    sim.start()
    sim.run(1)
    assert [event.data for event in sim.nodes[1].machine.seen] == [b"first", b"second"]


def test_a_timer_fires_once_unless_it_was_cancelled_or_set_again():
    timers = [SetTimer(("a",), 0.1), SetTimer(("b",), 0.1), CancelTimer(("b",)), SetTimer(("a",), 0.3)]
    sim, _ = simulation([says(*timers)])
    sim.start()
    sim.run(0.29)
    assert sim.nodes[0].machine.seen == []
    sim.run(1)
    assert sim.nodes[0].machine.seen == [Fired(("a",))]


def test_a_slow_clock_makes_timers_late():
    sim, _ = simulation([says(SetTimer(("a",), 1.0))])
    sim.nodes[0].rate = 1.05
    sim.start()
    sim.run(1.049)
    assert sim.nodes[0].machine.seen == []
    sim.run(1.051)
    assert sim.nodes[0].machine.seen == [Fired(("a",))]


def test_a_timer_that_fires_while_the_processor_stands_still_can_still_be_cancelled():
    cancels = lambda: Script(  # noqa: E731
        lambda event: [CancelTimer(("b",))] if isinstance(event, Received) else [], [SetTimer(("b",), 0.05)]
    )
    sim, _ = simulation([cancels, says(Send((0,), b"x", "vote"))])
    sim.pause(0, 0.2)
    sim.start()
    sim.run(1)
    assert sim.nodes[0].machine.seen == [Received(1, b"x")]


def test_a_send_waits_until_what_was_persisted_before_it_is_durable():
    effects = [Send((1,), b"early", "vote"), Persist(1, b"record"), Send((1,), b"late", "vote")]
    sim, watch = simulation([says(*effects), quiet], sync=0.004)
    sim.start()
    sim.run(1)
    assert [(what, data) for _, _, what, data in watch.log] == [
        ("sends", b"early"), ("keeps", b"record"), ("sends", b"late"),
    ]  # fmt: skip
    assert watch.log[-1][0] == nanos(0.004)


def test_records_that_come_during_a_sync_share_the_next_one():
    def answer(event):
        return [Persist(1, event.data), Send((1,), event.data, "vote")]

    sim, watch = simulation([lambda: Script(answer), quiet], sync=0.01)
    sim.start()
    for at, data in ((0.0, b"a"), (0.001, b"b"), (0.002, b"c")):
        sim.at(at, lambda data=data: sim.post(2, (0,), data))
    sim.run(1)
    kept = {data: at for at, _, what, data in watch.log if what == "keeps"}
    assert kept[b"a"] == nanos(0.02)
    assert kept[b"b"] == kept[b"c"] == nanos(0.03)


@pytest.mark.parametrize(
    ("fault", "left"), [("lost", []), ("kept", [b"one", b"two"]), ("flipped", None), ("torn", None)]
)
def test_a_crash_during_a_sync_loses_what_was_not_durable_and_sends_nothing(fault, left):
    sim, watch = simulation(
        [says(Persist(1, b"one"), Persist(2, b"two"), Send((1,), b"vote", "vote")), quiet], sync=0.01
    )
    sim.start()
    sim.at(0.005, lambda: sim.crash(0, fault))
    sim.run(0.5)
    sim.restart(0)
    records = sim.nodes[0].machine.records
    assert records in ([], [b"one"]) if left is None else records == left
    assert not [data for at, index, what, data in watch.log if what == "sends" and at < nanos(0.5)]


def test_a_node_can_crash_in_the_middle_of_its_kth_write():
    begin = [Persist(seq, b"%d" % seq) for seq in range(1, 6)]
    sim, _ = simulation([says(*begin)])
    sim.nodes[0].disk.crash_at = 3
    sim.start()
    assert not sim.nodes[0].up
    sim.nodes[0].disk.crash_at = 0
    sim.restart(0)
    assert sim.nodes[0].machine.records == [b"1", b"2"]


def test_a_node_whose_disk_is_full_stops_for_good():
    sim, _ = simulation([says(Persist(1, bytes(100)), Persist(2, bytes(100)))])
    sim.nodes[0].disk.capacity = 150
    sim.start()
    sim.restart(0)
    assert not sim.nodes[0].up


def test_forgotten_records_are_not_recovered():
    sim, _ = simulation([says(Persist(1, b"old"), Persist(3, b"new"), Forget(2))])
    sim.start()
    sim.crash(0)
    sim.restart(0)
    assert sim.nodes[0].machine.records == [b"new"]


def test_timers_and_messages_of_an_earlier_life_are_void():
    sim, _ = simulation([says(SetTimer(("a",), 0.1)), says(Send((0,), b"x", "vote"))])
    sim.start()
    sim.at(0.005, lambda: sim.crash(0))
    sim.run(1)
    assert sim.nodes[0].machine.seen == []
    sim.restart(0)
    sim.run(2)
    assert sim.nodes[0].machine.seen == [Fired(("a",))]


def test_a_processor_takes_one_message_after_the_other_and_its_work_is_added_up():
    def echo(event):
        return [Send((1,), event.data, "vote")]

    sim, watch = simulation([lambda: Script(echo), quiet], rtt=0.0, costs=SERVER)
    sim.start()
    size = 1000
    for _ in range(3):
        sim.post(2, (0,), bytes(size))
    sim.run(1)
    step, send = nanos(SERVER.transfer(size) + SERVER.hash(size)), nanos(SERVER.transfer(size))
    assert sim.nodes[0].work == 3 * (step + send)
    assert [at for at, index, _, _ in watch.log if index == 0] == [step, 2 * step + send, 3 * step + 2 * send]


def test_both_twins_get_what_is_sent_to_their_identity():
    scripts = [says(Send((1,), b"x", "vote")), quiet, quiet]
    sim = Simulation(lambda index, meter: scripts[index](), (0, 1, 1), Network(3, uniform(0.01)))
    sim.start()
    sim.run(1)
    assert [sim.nodes[index].machine.seen for index in (1, 2)] == [[Received(0, b"x")]] * 2


def test_the_trace_hash_tells_runs_apart_and_repeats():
    def once(data):
        sim, _ = simulation([says(Send((1,), data, "vote"), SetTimer(("t", 1), 0.5)), quiet], trace=Trace())
        sim.start()
        sim.run(1)
        return sim.trace.hexdigest()

    assert once(b"a") == once(b"a") != once(b"b")


def test_a_run_can_be_limited_in_steps():
    sim, _ = simulation([lambda to=to: Script(lambda event: [Send((to,), b"x", "vote")]) for to in (1, 0)])
    sim.start()
    sim.post(2, (0,), b"x")
    assert not sim.run(1000, steps=50)
    assert sim.steps == 50
