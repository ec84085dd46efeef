"""Clients of which the first few are poisoned: they send what leads away from what they learnt."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, UserConfig
from flwr.clientapp import ClientApp

import fl.client
from fl.engine.app import SEED_KEY
from fl.engine.grid import round_of
from fl.engine.seeding import derive, seeded

POISONED, COUNCIL = "poisoned", "council"
"""What the server says of the arm that a message belongs to: do clients poison, and does a block come along."""

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train as every client does, with the same draws in every arm; then poison the update where that is to be."""
    arm = message.content.config_records["config"]
    without: UserConfig = (
        {} if arm[COUNCIL] else {"council-replicas": 0, "council-faults": ""}
    )  # no blocks to be checked
    config: UserConfig = {**context.run_config, **without}
    own = Context(context.run_id, context.node_id, context.node_config, context.state, config)
    index = int(context.node_config["partition-id"])
    seed = int(context.node_config.get(SEED_KEY, context.run_id))
    before = next(iter(message.content.array_records.values()))
    with seeded(derive(seed, "byzantine", index, round_of(message) or 0)):
        reply: Message = fl.client.train(message, own)
    if arm[POISONED] and index < int(context.run_config["user.poisoned-clients"]):
        after = reply.content.array_records["arrays"]
        reply.content["arrays"] = _poison(before, after, float(context.run_config["user.poison"]))
    return reply


def _poison(before: ArrayRecord, after: ArrayRecord, strength: float) -> ArrayRecord:
    """Go `strength` times as far as training did, the other way."""
    poisoned = {}
    for name, array in after.items():
        start = before[name].numpy()
        poisoned[name] = Array(np.asarray(start - strength * (array.numpy() - start), array.numpy().dtype))
    return ArrayRecord(poisoned)
