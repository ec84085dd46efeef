"""The model, the data of each client, and local training and testing."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES, HIDDEN, CLASSES = 64, 32, 10
TRAIN_RECORDS, TEST_RECORDS = 64, 16
SERVER_RECORDS = 500
ROUNDS, BATCH_SIZE, LEARNING_RATE = 5, 32, 0.1
LOCAL_EPOCHS = int(os.environ.get("MLP_LOCAL_EPOCHS", "1"))  # an engine-neutral way to make clients work harder
_SERVER = 1_000_000  # a partition no client has
_SPREAD = 1.5


class Net(nn.Module):
    """A network with one hidden layer, 64-32-10."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, HIDDEN)
        self.output = nn.Linear(HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features to logits."""
        return self.output(torch.relu(self.hidden(features)))


def _records(partition: int, count: int) -> TensorDataset:
    """Draw records around one centre per class; the same partition always holds the same ones."""
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
    own = torch.Generator().manual_seed(1 + partition)
    labels = torch.randint(CLASSES, (count,), generator=own)
    features = centres[labels] + _SPREAD * torch.randn(count, FEATURES, generator=own)
    return TensorDataset(features, labels)


def load_data(partition: int) -> tuple[DataLoader, DataLoader]:
    """Return a client's training and test batches."""
    features, labels = _records(partition, TRAIN_RECORDS + TEST_RECORDS).tensors
    train_set = TensorDataset(features[:TRAIN_RECORDS], labels[:TRAIN_RECORDS])
    test_set = TensorDataset(features[TRAIN_RECORDS:], labels[TRAIN_RECORDS:])
    return DataLoader(train_set, BATCH_SIZE, shuffle=True), DataLoader(test_set, BATCH_SIZE)


def load_server_data() -> DataLoader:
    """Return the server's test batches."""
    return DataLoader(_records(_SERVER, SERVER_RECORDS), SERVER_RECORDS)


def train(net: nn.Module, loader: DataLoader) -> float:
    """Train on the batches and return the mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss()
    net.train()
    total = 0.0
    for _ in range(LOCAL_EPOCHS):
        for features, labels in loader:
            optimizer.zero_grad()
            loss = criterion(net(features), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / (LOCAL_EPOCHS * len(loader))


def test(net: nn.Module, loader: DataLoader) -> tuple[float, float]:
    """Return the mean loss and the accuracy over all records of the batches."""
    criterion = nn.CrossEntropyLoss(reduction="sum")
    net.eval()
    loss, correct, records = 0.0, 0, 0
    with torch.no_grad():
        for features, labels in loader:
            logits = net(features)
            loss += criterion(logits, labels).item()
            correct += int((logits.argmax(1) == labels).sum())
            records += len(labels)
    return loss / records, correct / records
