"""The ClientApp: local training and local evaluation."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader

from mlp_app.task import Net, load_data
from mlp_app.task import test as test_fn
from mlp_app.task import train as train_fn

app = ClientApp()


def _setup(msg: Message, context: Context) -> tuple[Net, DataLoader, DataLoader]:
    net = Net()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    return net, *load_data(int(context.node_config["partition-id"]))


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on local data."""
    net, loader, _ = _setup(msg, context)
    metrics = {"train_loss": train_fn(net, loader), "num-examples": len(loader.dataset)}
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the received model on local data."""
    net, _, loader = _setup(msg, context)
    loss, accuracy = test_fn(net, loader)
    metrics = {"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(loader.dataset)}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)
