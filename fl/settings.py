"""The configuration of a fedshard app: ``[tool.flwr.app.config]``, read once, checked, typed."""

from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from flwr.app import UserConfig

from fl.council.council import Plan
from fl.council.faults import Faults
from fl.data import DATA_KEYS, DATA_PREFIX, DataSpec, Source, make_partitioner, open_source
from fl.data.reference import module_folder, resolve
from fl.data.spec import Value
from fl.loader import Loader, Place, TestLoader
from fl.privacy import Mechanism, calibrate
from fl.schedule import Schedule
from fl.task import Classification, Regression, Task
from shards.errors import InputError
from shards.nearest import suggest
from shards.planner import Settings as PlannerSettings

USER_PREFIX = "user."
"""Keys under this prefix belong to the app's own code: unchecked, and handed to its loader."""

WEIGHT_KEY = "num-examples"
"""What Flower's strategies weigh replies by; with privacy on it is 1 for everybody."""

_ROUNDS_AHEAD = 12  # within which a new cut of a client's rows has to pay for itself


@dataclass(frozen=True)
class Settings:
    """Everything the two apps read from the run configuration; a key is the field's name with dashes.

    Attributes
    ----------
    model : str
        ``module:function`` that returns a fresh ``torch.nn.Module``.
    data : str
        ``csv:<path>``, ``parquet:<path>``, ``npz:<path>``, ``sklearn:<name>``, ``module:function`` called with
        (client, number of clients), or the name under which a package offers a set; see `open_source`. With
        `loader`, a folder.
    loader : str
        ``module:function`` that reads what lies in the folder `data`: called with (client, number of clients,
        `fl.loader.Place`). Empty where `data` says it all.
    columns : DataSpec
        What the columns of files mean: the keys ``columns.*``.
    test_data : str
        The server's public test set: files, or ``module:function`` (with `loader`, called with the `Place`); empty
        for none (built-in sets have one).
    task : str
        ``classification`` or ``regression``: what labels are, hence loss and metrics.
    target_scale : float
        Public size of a regression's target: the loss measures errors in units of it. Labels, predictions and
        ``rmse`` stay in the target's own units.
    test_by : str
        Key column of the test set; the server also reports its metrics for each value of it. Empty for none.
    train_request : str
        Which records rounds train on, as `Request.parse` takes it: ``region = north``, ``last 30d``; empty for all.
    clock_start, clock_step : str
        Round k's windows end at `clock_start` + k × `clock_step`, such as ``2016-03-01`` and ``1d``.
    max_shards : int
        The most shards that a client's rows are cut into while their requests are learned; 1 for no cutting.
    partitioner : str
        ``iid``, ``dirichlet``, ``quantity`` or ``column``: how a built-in set is split.
    partition_alpha : float
        Concentration of the Dirichlet partitioners: the smaller, the more skewed.
    partition_column : str
        Key column of the ``column`` partitioner.
    test_fraction : float
        Share of a built-in set that becomes the server's test set, stratified by class.
    local_test_fraction : float
        Share of its rows that each client holds out; with privacy off it reports metrics on them.
    data_seed : int
        Seeds split and partition.
    user : tuple of (str, value)
        The keys ``user.*``, without the prefix and sorted: the app's own, which its `loader` receives.
    num_server_rounds : int
        Rounds of training.
    fraction_train : float
        Share of the clients asked in each round.
    strategy : str
        Name of a Flower strategy, e.g. ``FedAvg`` or ``FedAdam``.
    server_momentum : float
        Of the strategy ``FedAvgM``: the share of its last step that the global model goes on with.
    momentum : float
        Of each client's SGD, with privacy on or off; at rest when a round begins.
    learning_rate, local_epochs, batch_size : float, int, int
        Of each client's training where privacy is off.
    privacy : str
        ``dp-sgd`` or ``off``.
    epsilon, delta : float
        The budget of each record over the whole run.
    noise_multiplier : float or "auto"
        Noise standard deviation over the clipping norm; ``auto`` is the smallest that keeps every round within
        the budget.
    clipping_norm : float
        Bound on the L2 norm of each record's gradient.
    dp_learning_rate : float
        Step size of DP-SGD; not `learning_rate`, because clipped gradients have another scale.
    local_steps : int
        Steps of DP-SGD per round.
    sampling_rate : float
        Probability with which a record enters a step of DP-SGD (Poisson sampling); 1 for full batches.
    expected_batch_size : float
        The divisor of a step's summed gradients: configured, because the true size is private.
    council_replicas : int
        Replicas of the council that agrees on every round's aggregate; 0 for no council.
    council_protocol : str
        Name of one of `consensus.protocols`.
    council_verify : str
        What a vote vouches for: ``region`` or ``all``; see `fl.strategy.ConsensusStrategy`.
    council_faults : str
        Which replicas misbehave, such as ``lying-head:2, false-aggregate:1``; see `fl.council.faults`.
    """

    model: str
    data: str
    num_server_rounds: int
    loader: str = ""
    columns: DataSpec = field(default_factory=DataSpec)
    test_data: str = ""
    task: Literal["classification", "regression"] = "classification"
    target_scale: float = 1.0
    test_by: str = ""
    train_request: str = ""
    clock_start: str = ""
    clock_step: str = ""
    max_shards: int = 32
    partitioner: str = "iid"
    partition_alpha: float = 0.5
    partition_column: str = ""
    test_fraction: float = 0.2
    local_test_fraction: float = 0.0
    data_seed: int = 0
    user: tuple[tuple[str, Value], ...] = ()
    fraction_train: float = 1.0
    strategy: str = "FedAvg"
    server_momentum: float = 0.0
    momentum: float = 0.0
    learning_rate: float = 0.1
    local_epochs: int = 1
    batch_size: int = 16
    privacy: Literal["dp-sgd", "off"] = "dp-sgd"
    epsilon: float = 8.0
    delta: float = 1e-5
    noise_multiplier: float | Literal["auto"] = "auto"
    clipping_norm: float = 1.0
    dp_learning_rate: float = 1.0
    local_steps: int = 1
    sampling_rate: float = 1.0
    expected_batch_size: float = 32.0
    council_replicas: int = 0
    council_protocol: str = "regional"
    council_verify: Literal["region", "all"] = "region"
    council_faults: str = ""

    @classmethod
    def read(cls, config: UserConfig, where: str = "[tool.flwr.app.config]") -> "Settings":
        """Check a run configuration and turn it into settings.

        Parameters
        ----------
        config : dict
            The flattened run configuration.
        where : str
            Names the configuration in errors.

        Raises
        ------
        InputError
            For a key that is missing, unknown (suggesting the near one), of another type or out of range.
        """
        known = {name.replace("_", "-"): kind for name, kind in _PLAIN.items()}
        values: dict[str, Any] = {}
        for key, value in config.items():
            if key.startswith((USER_PREFIX, DATA_PREFIX)):
                continue
            if key not in known:
                hint = f"keys of your own start with '{USER_PREFIX}'"
                raise InputError(f"{where}: unknown key '{key}'; {suggest(key, [*known, *DATA_KEYS])} ({hint})")
            values[key.replace("-", "_")] = _checked(where, key, value, known[key])
        for key in ("model", "data", "num-server-rounds"):
            if key.replace("-", "_") not in values:
                raise InputError(f"{where}: the key '{key}' is missing")
        own = {key.removeprefix(USER_PREFIX): value for key, value in config.items() if key.startswith(USER_PREFIX)}
        settings = cls(**values, columns=DataSpec.read(config, where), user=tuple(sorted(own.items())))
        settings._check_ranges(where)
        try:
            settings.schedule()
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        return settings

    @property
    def private(self) -> bool:
        """Whether training is differentially private."""
        return self.privacy != "off"

    def objective(self) -> Task:
        """Return the task, with its loss and metrics."""
        return Regression(self.target_scale) if self.task == "regression" else Classification()

    def source(self) -> Source:
        """Open the data source.

        Raises
        ------
        InputError
            If a reference or the partitioner is unknown.
        """
        partitioner = make_partitioner(
            self.partitioner, alpha=self.partition_alpha, column=self.partition_column or None
        )
        folder = module_folder(self.model)
        if self.loader:
            return self._loaded(folder)
        return open_source(
            self.data,
            partitioner=partitioner,
            test_fraction=self.test_fraction,
            seed=self.data_seed,
            test_reference=self.test_data or None,
            task=self.task,
            spec=self.columns,
            folder=folder,
        )

    def _loaded(self, folder: Path) -> Source:
        place = Place(folder / Path(self.data).expanduser(), self.data_seed, self.user)
        test = TestLoader(resolve(self.test_data), place) if self.test_data else None
        load = Loader(resolve(self.loader), place)
        return Source(self.loader, load, test, self.test_data or None, task=self.task, spec=self.columns)

    def schedule(self) -> Schedule:
        """Return which records each round trains on.

        Raises
        ------
        InputError
            If the request or its clock cannot be read.
        """
        return _schedule(self.train_request, self.clock_start, self.clock_step)

    @property
    def evaluates_locally(self) -> bool:
        """Whether clients report metrics on rows they held out: never under privacy, where no one charged for it."""
        return not self.private and self.local_test_fraction > 0

    def planner(self) -> PlannerSettings:
        """Return what the planner of a client's shards may do."""
        reads = 2 if self.evaluates_locally else 1
        return PlannerSettings(max_boxes=self.max_shards, horizon=_ROUNDS_AHEAD * reads)

    def council(self) -> Plan | None:
        """Return who is in the council; None where there is none.

        Raises
        ------
        InputError
            If there can be no such council; names the key.
        """
        if not self.council_replicas:
            return None
        try:
            faults = Faults.parse(self.council_faults)
            return Plan.of(self.council_replicas, self.council_protocol, faults)
        except InputError as error:
            raise InputError(
                f"council-replicas = {self.council_replicas}, council-protocol = '{self.council_protocol}', "
                f"council-faults = '{self.council_faults}': {error}"
            ) from error

    def mechanism(self) -> Mechanism:
        """Return the privacy mechanism of one round at one client.

        ``auto`` noise is calibrated here, to the rounds in which one record can be eligible.
        """
        noise = self.noise_multiplier
        if noise == "auto":
            steps = self.local_steps * self.schedule().eligible_rounds(self.num_server_rounds)
            noise = _calibrated(self.epsilon, self.delta, self.sampling_rate, steps)
        return Mechanism(self.sampling_rate, noise, self.local_steps)

    def _check_ranges(self, where: str) -> None:
        def need(holds: bool, key: str, rule: str) -> None:
            if not holds:
                value = getattr(self, key.replace("-", "_"))
                raise InputError(f"{where}: {key} = {value!r}: must be {rule}")

        for key in ("num-server-rounds", "local-epochs", "batch-size", "local-steps", "max-shards"):
            need(getattr(self, key.replace("-", "_")) >= 1, key, "a whole number from 1")
        for key in (
            "learning-rate",
            "dp-learning-rate",
            "epsilon",
            "clipping-norm",
            "expected-batch-size",
            "partition-alpha",
            "target-scale",
        ):
            need(0 < getattr(self, key.replace("-", "_")) < float("inf"), key, "above 0")
        need(self.data_seed >= 0, "data-seed", "0 or more")
        need(0 <= self.momentum < 1, "momentum", "from 0 to below 1")
        need(0 <= self.server_momentum < 1, "server-momentum", "from 0 to below 1")
        if self.strategy != "FedAvgM":
            need(self.server_momentum == 0, "server-momentum", '0 unless strategy = "FedAvgM"')
        need(0 < self.fraction_train <= 1, "fraction-train", "above 0 and at most 1")
        need(0 < self.test_fraction < 1, "test-fraction", "between 0 and 1")
        need(0 <= self.local_test_fraction < 1, "local-test-fraction", "from 0 to below 1")
        need(0 < self.delta < 1, "delta", "between 0 and 1")
        need(0 < self.sampling_rate <= 1, "sampling-rate", "above 0 and at most 1")
        need(self.task in ("classification", "regression"), "task", '"classification" or "regression"')
        need(self.privacy in ("dp-sgd", "off"), "privacy", '"dp-sgd" or "off"')
        need(self.council_replicas >= 0, "council-replicas", "0 for none, or from 4")
        need(self.council_verify in ("region", "all"), "council-verify", '"region" or "all"')
        if not self.council_replicas:
            need(not self.council_faults, "council-faults", "empty while council-replicas is 0")
        if isinstance(self.noise_multiplier, str):
            need(self.noise_multiplier == "auto", "noise-multiplier", 'a number above 0, or "auto"')
        else:
            need(0 < self.noise_multiplier < float("inf"), "noise-multiplier", 'above 0, or "auto"')


_PLAIN = {known.name: known.type for known in fields(Settings) if known.name not in ("columns", "user")}
_schedule = lru_cache(Schedule.read)
_calibrated = lru_cache(calibrate)  # clients ask in every round, and a search takes up to a second


def _checked(where: str, key: str, value: Any, kind: Any) -> Any:
    """Check a value's type against a field's annotation; a whole number may stand for a float."""
    expected = {str: "a string", int: "a whole number", float: "a number"}
    if kind in expected:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise InputError(f"{where}: {key} = {value!r}: expected {expected[kind]}")
        return value
    if isinstance(value, bool):
        raise InputError(f"{where}: {key} = {value!r}: expected a number or a word")
    try:  # noise-multiplier: a number, a number that an override wrote as a string, or a word
        return float(value)
    except ValueError:
        return value
