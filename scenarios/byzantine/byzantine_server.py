"""Five federations side by side, on the same clients and with the same draws: what poison and liars do to each.

Two are honest or poisoned under plain averaging, one is poisoned under the plain median; and two have a council, with
and without faulty replicas, whose models must be equal to the bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from byzantine_client import COUNCIL, POISONED
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl.data import Records
from fl.engine import EngineGrid, RoundEvent
from fl.engine.seeding import derive, seeded
from fl.model import build_model, evaluate, load_weights, weights
from fl.run.blocks import described
from fl.run.progress import Printer
from fl.server import REPLY_TIMEOUT_S, FederationApp, make_council, make_strategy
from fl.settings import Settings
from fl.strategy import ConsensusStrategy

HONEST, AVERAGED, MEDIAN = "honest, FedAvg", "poisoned, FedAvg", "poisoned, FedMedian"
FAULTLESS, FAULTY = "poisoned, council", "poisoned, council with liars"


@dataclass
class Arm:
    """One federation: its name, its strategy, whether its clients poison, and its model so far."""

    name: str
    strategy: Strategy
    poisoned: bool
    arrays: ArrayRecord

    def round(self, server_round: int, grid: Grid) -> None:
        """Train one round."""
        config = ConfigRecord({POISONED: self.poisoned, COUNCIL: isinstance(self.strategy, ConsensusStrategy)})
        requests = list(self.strategy.configure_train(server_round, self.arrays, config, grid))
        replies: list[Message] = list(grid.send_and_receive(requests, timeout=REPLY_TIMEOUT_S))
        replies.sort(key=lambda reply: reply.metadata.src_node_id)
        arrays, _ = self.strategy.aggregate_train(server_round, replies)
        self.arrays = arrays if arrays is not None else self.arrays


app = FederationApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all arms round by round, and print what became of each."""
    settings = Settings.read(context.run_config)
    arms, liars = _arms(settings, context)
    test, report = settings.source().test(), grid.report if isinstance(grid, EngineGrid) else Printer().on_round
    assert test is not None, "digits have a test set"
    metrics: dict[str, float] = {}
    named: dict[str, list[int]] = {}
    for server_round in range(1, settings.num_server_rounds + 1):
        metrics = {}
        for arm in arms:
            with seeded(derive(context.run_id, "round", server_round)):
                arm.round(server_round, grid)
            metrics |= {f"test_{kind}/{arm.name}": value for kind, value in _tested(settings, arm, test).items()}
        metrics |= {f"test_{kind}": metrics[f"test_{kind}/{FAULTY}"] for kind in ("accuracy", "loss")}
        blocks = described(liars.decisions, liars.seconds)
        for note in [note for block in blocks for note in block["notes"]]:
            named.setdefault(note, []).append(server_round)
        phases = {"council": liars.seconds}
        liars.decisions, liars.seconds = [], 0.0
        total = settings.num_server_rounds
        report(RoundEvent(server_round, total, metrics, arms[-1].arrays, phases, blocks))
    print(_table(settings, arms, metrics, named))


def _arms(settings: Settings, context: Context) -> tuple[list[Arm], ConsensusStrategy]:
    start = weights(build_model(settings.model))
    plain = replace(settings, strategy="FedAvg")
    liars = make_council(settings, context)
    clean = make_council(replace(settings, council_faults=""), context, "without-liars")
    assert liars is not None, "preflight saw to it"
    assert clean is not None
    arms = [
        Arm(HONEST, make_strategy(plain), False, start),
        Arm(AVERAGED, make_strategy(plain), True, start),
        Arm(MEDIAN, make_strategy(replace(settings, strategy="FedMedian")), True, start),
        Arm(FAULTLESS, clean, True, start),
        Arm(FAULTY, liars, True, start),
    ]
    return arms, liars


def _tested(settings: Settings, arm: Arm, test: Records) -> dict[str, float]:
    model = build_model(settings.model)
    load_weights(model, arm.arrays)
    return dict(evaluate(model, test, settings.objective()))


def _table(
    settings: Settings, arms: Sequence[Arm], metrics: dict[str, float], named: Mapping[str, Sequence[int]]
) -> str:
    """Write what became of each arm, one line each, and who was named."""
    width = max(len(arm.name) for arm in arms)
    lines = [f"{'':{width}}  accuracy  loss"]
    for arm in arms:
        accuracy, loss = (metrics[f"test_{kind}/{arm.name}"] for kind in ("accuracy", "loss"))
        lines.append(f"{arm.name:{width}}  {accuracy:8.3f}  {loss:.3g}")
    clean, liars = arms[-2:]
    same = [array.data for array in clean.arrays.values()] == [array.data for array in liars.arrays.values()]
    lines.append(f"faulty replicas ({settings.council_faults}) changed {'nothing' if same else 'THE MODEL'}")
    for note, rounds in named.items():
        when = f"rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"round {rounds[0]}"
        lines.append(f"  {when}: {note}")
    return "\n".join(lines)
