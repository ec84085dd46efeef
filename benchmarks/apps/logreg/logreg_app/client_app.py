"""The ClientApp: one pass of SGD over the client's records."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from logreg_app.data import BATCH_SIZE, CLASSES, FEATURES, LEARNING_RATE, LOCAL_EPOCHS, client_records

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on local data."""
    model = torch.nn.Linear(FEATURES, CLASSES)
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    features, labels = map(torch.from_numpy, client_records(int(context.node_config["partition-id"])))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for _ in range(LOCAL_EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
            optimizer.step()
    metrics = MetricRecord({"num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)
