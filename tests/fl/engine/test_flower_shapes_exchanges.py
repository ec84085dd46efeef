"""A server of ones own: polling, what each message carries, and what is refused."""

import time

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from shapes import CLIENTS, ask, counting_client, echo, model, partition, reply_to, run, server_of

from fl.run.summary import model_digest

pytestmark = pytest.mark.usefixtures("no_hang")

BOTH = pytest.mark.parametrize("workers", [0, 2])


@BOTH
def test_a_server_that_polls_gets_each_reply_once_in_sending_order(workers):
    client = ClientApp()
    client.query()(lambda message, context: reply_to(message, partition=partition(context)))
    heard = []

    def main(grid, context):
        nodes = list(grid.get_node_ids())
        messages = [Message(RecordDict(), node, "query", ttl=60.0, group_id="g") for node in reversed(nodes)]
        pending = set(grid.push_messages(messages))
        assert len(pending) == CLIENTS
        sent = list(pending)
        while pending:
            for reply in grid.pull_messages(pending):
                pending.remove(reply.metadata.reply_to_message_id)
                assert reply.metadata.group_id == "g"
                heard.append((reply.content["metrics"]["partition"], reply.metadata.src_node_id))
            time.sleep(0.01)
        assert list(grid.pull_messages(sent)) == []
        assert [node for _, node in heard] == nodes[::-1]

    run(server_of(main), client, workers=workers)
    assert [number for number, _ in heard] == [3, 2, 1, 0]


@BOTH
def test_replies_to_part_of_the_messages_can_be_pulled_first(workers):
    client = ClientApp()
    client.query()(lambda message, context: reply_to(message, partition=partition(context)))
    heard = []

    def main(grid, context):
        messages = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
        ids = list(grid.push_messages(messages))
        for part in (ids[2:], ids[:2]):
            heard.append([r.content["metrics"]["partition"] for r in grid.pull_messages(part)])

    run(server_of(main), client, workers=workers)
    assert heard == [[2, 3], [0, 1]]


@BOTH
def test_a_content_that_changes_while_it_is_sent_reaches_each_client_as_it_was(workers):
    client = ClientApp()
    client.query()(echo)
    heard = []

    def main(grid, context):
        content = RecordDict({"config": ConfigRecord()})

        def messages():
            for number, node in enumerate(grid.get_node_ids()):
                content["config"]["number"] = number
                yield Message(content, node, "query")

        heard.extend(r.content["config"]["number"] for r in grid.send_and_receive(messages()))

    run(server_of(main), client, workers=workers)
    assert heard == list(range(CLIENTS))


@BOTH
def test_the_deprecated_create_message_and_create_reply(workers):
    client = ClientApp()
    client.train()(lambda message, context: message.create_reply(message.content))
    heard = []

    def main(grid, context):
        content = RecordDict({"arrays": model(), "config": ConfigRecord({"x": 1})})
        messages = [grid.create_message(content, "train", node, "7", ttl=30.0) for node in grid.get_node_ids()]
        heard.extend(grid.send_and_receive(messages))

    run(server_of(main), client, workers=workers)
    assert [reply.metadata.group_id for reply in heard] == CLIENTS * ["7"]
    assert {model_digest(reply.content["arrays"]) for reply in heard} == {model_digest(model())}


@BOTH
def test_configuration_reaches_both_apps_and_each_node_its_own(workers):
    client = ClientApp()
    config = {"lr": 0.5, "name": "n", "deep.er": 3, "flag": True}

    @client.query()
    def query(message, context):
        assert context.run_config == config
        node = {key: value for key, value in context.node_config.items() if key != "extra"}
        return Message(
            RecordDict({"node": ConfigRecord(node), "ids": ConfigRecord({"ids": [context.run_id, context.node_id]})}),
            reply_to=message,
        )

    heard = []

    def main(grid, context):
        assert context.run_config == config
        assert context.run_id == grid.run.run_id
        for reply in ask(grid, "query"):
            assert list(reply.content["ids"]["ids"]) == [context.run_id, reply.metadata.src_node_id]
            heard.append(dict(reply.content["node"]))
        assert {info.node_id for info in grid.get_nodes()} == set(grid.get_node_ids())

    run(server_of(main), client, workers=workers, config=config, node_config={"extra": "e"})
    assert heard == [{"partition-id": n, "num-partitions": CLIENTS} for n in range(CLIENTS)]


@BOTH
def test_a_message_to_an_unknown_node_is_dropped_and_the_rest_arrives(workers, caplog):
    client = ClientApp()
    client.query()(lambda message, context: reply_to(message, partition=partition(context)))
    heard = []

    def main(grid, context):
        nodes = list(grid.get_node_ids())
        assert list(grid.push_messages([Message(RecordDict(), 12345, "query")])) == []
        replies = ask(grid, "query", [nodes[0], 12345, nodes[1]])
        heard.extend(r.content["metrics"]["partition"] for r in replies)

    run(server_of(main), client, workers=workers)
    assert heard == [0, 1]
    assert "no node 12345" in caplog.text


@BOTH
def test_a_message_without_time_to_live_or_with_another_type_is_refused(workers):
    client = ClientApp()
    client.query()(echo)

    def main(grid, context):
        node = next(iter(grid.get_node_ids()))
        late = Message(RecordDict(), node, "query", ttl=-1.0)
        with pytest.raises(ValueError, match="Invalid message"):
            grid.push_messages([late])
        with pytest.raises(ValueError, match="Invalid message type"):
            Message(RecordDict(), node, "nonsense")

    run(server_of(main), client, workers=workers)


@BOTH
def test_a_reply_cannot_be_sent_on(workers):
    client = ClientApp()
    client.query()(echo)

    def main(grid, context):
        reply = ask(grid, "query")[0]
        with pytest.raises(ValueError, match="Invalid message"):
            grid.push_messages([reply])

    run(server_of(main), client, workers=workers)


@BOTH
def test_several_messages_to_one_node_are_served_one_at_a_time_in_order(workers):
    seen = []

    def main(grid, context):
        node = next(iter(grid.get_node_ids()))
        seen.extend(r.content["metrics"]["count"] for r in ask(grid, "train", 5 * [node]))

    run(server_of(main), counting_client(), workers=workers)
    assert seen == [1, 2, 3, 4, 5]
