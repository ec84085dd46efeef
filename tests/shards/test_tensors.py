"""Apart from the other tests of stores, which fork: torch makes a process large."""

from pathlib import Path

import torch
from tables import table

from shards.files import FolderFiles
from shards.layout import Cut, Layout, Leaf
from shards.request import Request
from shards.store import Store

EVERYTHING = Request.everything()
NORTH = Cut("region", frozenset({"north"}), Leaf(), Leaf())


def test_tensors_lie_on_the_memory_of_the_columns():
    rows = table(range(5))
    tensors = rows.tensors()
    assert list(tensors) == ["features"]
    assert tensors["features"].data_ptr() == rows.columns["features"].ctypes.data


def test_a_whole_shard_becomes_tensors_without_a_copy(tmp_path):
    store = Store.create(FolderFiles(tmp_path), table(range(50)), Layout(NORTH))
    read = store.read(EVERYTHING.where(region="north")).table
    features = read.tensors()["features"]
    assert features.dtype == torch.float32
    lines = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    spans = [(*(int(end, 16) for end in line[0].split("-")), line[-1]) for line in lines]
    [mapped] = [name for low, high, name in spans if low <= features.data_ptr() < high]
    assert str(tmp_path) in mapped
    assert ".safetensors" in mapped
    features += 1  # private: neither the file nor the next reader sees it
    assert not torch.equal(store.read(EVERYTHING.where(region="north")).table.tensors()["features"], features)
