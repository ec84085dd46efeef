"""What observers are told of each client."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from shapes import CLIENTS, partition, server_of

from fl.engine import Apps, Options, RoundEvent, run_apps
from fl.run import MetricsLog


class Keeper:
    def __init__(self):
        self.events = []

    def on_batch(self, event):
        self.events.append(event)

    def on_round(self, event): ...


def telling_client():
    client = ClientApp()

    @client.query()
    def answer(message, context):
        number = partition(context)
        if number == 2:
            raise ValueError("no")
        metrics = MetricRecord({"loss": number + 0.5, "counts": [1, 2], "num-examples": 7})
        content = RecordDict({"m": metrics, "more": MetricRecord({"rmse": 2}), "a": ArrayRecord()})
        return Message(content, reply_to=message)

    return client


def query(grid, context):
    list(grid.send_and_receive([Message(RecordDict(), node, "query") for node in grid.get_node_ids()]))


def observe(main, workers, *observers):
    options = Options(clients=CLIENTS, workers=workers, seed=5, start_method="fork")
    run_apps(Apps(server_of(main), telling_client()), {}, options, observers=observers)


def test_an_exchange_tells_the_scalars_of_each_usable_reply_by_partition():
    for workers in (0, 2):
        keeper = Keeper()
        observe(query, workers, keeper)
        (event,) = keeper.events
        expected = {n: {"loss": n + 0.5, "num-examples": 7, "rmse": 2} for n in (0, 1, 3)}
        assert event.clients == expected
        assert (event.replied, event.failed) == (3, 1)


def test_the_log_keeps_what_clients_told_and_how_long_the_server_took():
    logged = []

    class Folder:
        def log(self, kind, fields):
            logged.append((kind, fields))

    def main(grid, context):
        query(grid, context)
        grid.report(RoundEvent(1, 1, {"test_loss": 0.5}, phases={"aggregation": 0.25}))

    keeper = Keeper()
    observe(main, 0, keeper, MetricsLog(Folder()))
    assert [kind for kind, _ in logged] == ["exchange", "round", "phases"]
    assert logged[0][1]["clients"] == keeper.events[0].clients
    assert logged[1][1] == {"server_round": 1, "test_loss": 0.5}
    assert logged[2][1] == {"server_round": 1, "aggregation": 0.25}
