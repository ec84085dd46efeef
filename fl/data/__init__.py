"""Client data: what a record is, where records come from, how a data set is split among clients."""

from fl.data.datasets import PartitionedSet, Source, open_source
from fl.data.describe import class_counts, describe_split
from fl.data.partition import ByColumn, Iid, Partitioner, make_partitioner
from fl.data.plot import plot_split
from fl.data.records import Records, Task, validate
from fl.data.skew import Dirichlet, Quantity
from fl.data.spec import DATA_KEYS, DATA_PREFIX, DataSpec

__all__ = [
    "DATA_KEYS",
    "DATA_PREFIX",
    "ByColumn",
    "DataSpec",
    "Dirichlet",
    "Iid",
    "PartitionedSet",
    "Partitioner",
    "Quantity",
    "Records",
    "Source",
    "Task",
    "class_counts",
    "describe_split",
    "make_partitioner",
    "open_source",
    "plot_split",
    "validate",
]
