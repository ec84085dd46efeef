"""Data sets of other libraries, and those that an installed package offers."""

import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from fl.data import DataSpec, Iid, open_source
from fl.data.reference import module_folder
from shards.errors import InputError

MODULE = """
import numpy as np, torch
from torch.utils.data import Subset, TensorDataset

WHOLE = TensorDataset(torch.arange(24.).reshape(6, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2]))

def load(client, num_clients):
    return Subset(WHOLE, range(client, 6, num_clients))

def test():
    return WHOLE

load.test = test
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that offers the data set `toy` as an entry point."""
    (tmp_path / "toy_sets.py").write_text(MODULE)
    metadata = tmp_path / "toy_sets-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-sets\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[fedshard.datasets]\ntoy = toy_sets:load\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_sets", raising=False)
    return tmp_path


def opened(reference, **options):
    return open_source(reference, **({"partitioner": Iid(), "seed": 0} | options))


def error_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_installed_package_offers_a_data_set_by_name_with_its_test_rows(package):
    source = opened("toy")
    parts = [source.client(k, 2) for k in range(2)]
    assert [part.features.shape for part in parts] == [(3, 2, 2)] * 2
    assert [part.labels.tolist() for part in parts] == [[0, 2, 1], [1, 0, 2]]
    assert parts[0].features[1].tolist() == [[8, 9], [10, 11]]
    assert len(set(parts[0].ids) | set(parts[1].ids)) == 6
    assert len(source.test()) == 6


def test_an_unknown_name_lists_what_is_installed(package):
    line = error_of(opened, "toyy")
    assert line.startswith(
        "data toyy: no installed package offers it (did you mean 'toy'?), and it is not of the form"
    )
    assert "choose one of: sklearn:breast_cancer, " in error_of(opened, "zzzzzz")
    assert ", toy)" in error_of(opened, "zzzzzz")


def test_a_torch_data_set_keeps_its_ids_and_may_be_a_regression(package):
    again = opened("toy").client(0, 2)
    assert opened("toy_sets:load").client(0, 2).features.tolist() == again.features.tolist()
    (package / "toy_numbers.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "def load(client, num_clients):\n"
        "    return TensorDataset(torch.tensor([1., 2.]), torch.tensor([0.5, -3.]))\n"
    )
    records = opened("toy_numbers:load", task="regression").client(0, 2)
    assert records.features.tolist() == [[1], [2]]
    assert records.labels.tolist() == [0.5, -3]
    assert records.ids.tolist() == opened("toy_numbers:load", task="regression").client(0, 3).ids.tolist()


class Odd(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_a_torch_data_set_whose_item_fails_says_what_it_raised(package, monkeypatch):
    monkeypatch.setattr("toy_sets.load", lambda client, num_clients: Odd(WithHole([1, 2])))
    assert error_of(opened("toy_sets:load").client, 0, 1) == (
        "client 0 of 1 (toy_sets:load): raised OSError: image 0 cannot be opened"
    )


class WithHole(list):
    def __getitem__(self, index):
        raise OSError(f"image {index} cannot be opened")


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ([], "no rows"),
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], "item 1 has features of shape (3,), item 0 of (2,); give all"),
        ([(torch.zeros(2), 0, 1)], "item 0 is tuple; make every item (features, label)"),
        ([torch.zeros(2)], "item 0 is Tensor; make every item (features, label)"),
        ([(torch.tensor([np.nan]), 0)], "record {id} has nan in feature column 0;"),
        ([(torch.zeros(2), 0.5)], "labels are float64, not integers;"),
        ([(torch.zeros(2), torch.zeros(1, dtype=int))], "labels has shape (1, 1); give one value per record"),
    ],
)
def test_torch_data_sets_that_cannot_be_used(package, monkeypatch, items, line):
    monkeypatch.setattr("toy_sets.load", lambda client, num_clients: Odd(items))
    message = error_of(opened("toy_sets:load").client, 0, 1)
    assert message.startswith("client 0 of 1 (toy_sets:load)")
    assert line.split("{id}")[0] in message


class Hugging:
    """As much of ``datasets.Dataset`` as fedshard uses; the real one where it is installed."""

    def __init__(self, columns):
        self.column_names = list(columns)
        self._columns = columns

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, rows):
        return {name: values[rows] for name, values in self._columns.items()}


def _hugging(columns):
    try:
        from datasets import Dataset as Real
    except ImportError:
        return Hugging(columns)
    return Real.from_dict(columns)


@pytest.mark.parametrize("make", [Hugging, _hugging], ids=["stand-in", "datasets, or stand-in where not installed"])
def test_a_hugging_face_data_set_is_read_by_the_columns_table(package, monkeypatch, make):
    rows = {"text": ["a", "b", "a"], "pixels": [[0.0, 8.0], [16.0, 4.0], [0.0, 0.0]], "label": [2, 0, 1]}
    monkeypatch.setattr("toy_sets.load", lambda client, num_clients: make(rows))
    spec = DataSpec.read(
        {
            "columns.target": "label",
            "columns.features": "pixels, text",
            "columns.bounds.pixels": "0..16",
            "columns.categories.text": "a|b",
            "columns.region": "text",
        }
    )
    records = opened("toy_sets:load", spec=spec).client(0, 1)
    assert records.features.tolist() == [[0, 0.5, 1, 0], [1, 0.25, 0, 1], [0, 0, 1, 0]]
    assert records.labels.tolist() == [2, 0, 1]
    assert records.keys["region"].tolist() == ["a", "b", "a"]
    assert "name the column to learn in columns.target; the data set has ['text', 'pixels', 'label']" in error_of(
        opened("toy_sets:load").client, 0, 1
    )


def test_a_value_of_a_hugging_face_data_set_is_found_by_its_row(package, monkeypatch):
    rows = {"x": [1.0, np.nan], "label": [0, 1]}
    monkeypatch.setattr("toy_sets.load", lambda client, num_clients: _hugging(rows))
    spec = DataSpec.read({"columns.target": "label"})
    assert error_of(opened("toy_sets:load", spec=spec).client, 0, 1).startswith(
        "client 0 of 1 (toy_sets:load), row 2, column 'x': no value;"
    )


def test_what_only_looks_like_a_data_set_is_refused_as_before(package, monkeypatch):
    for value in ([1, 2], (np.ones(2), np.ones(2)), {"x": [1]}, np.ones((2, 2)), TensorDataset):
        monkeypatch.setattr("toy_sets.load", lambda client, num_clients, value=value: value)
        source = open_source("toy_sets:load", partitioner=Iid(), seed=0)
        assert "expected fl.data.Records, got" in error_of(source.client, 0, 1)
    assert isinstance(Subset(TensorDataset(torch.ones(1)), [0]), Dataset)


def test_the_folder_of_an_app_is_where_its_module_is_imported_from(package, monkeypatch):
    assert module_folder("toy_sets:load") == package
    (package / "inside" / "deep").mkdir(parents=True)
    (package / "inside" / "deep" / "model.py").write_text("def build(): ...\n")
    assert module_folder("inside.deep.model:build") == package
    (package / "regular").mkdir()
    (package / "regular" / "__init__.py").write_text("def build(): ...\n")
    assert module_folder("regular:build") == package
