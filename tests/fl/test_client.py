"""What leaves a client: with privacy on, the noised weights and nothing else that depends on its data."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from support import DIGITS

from fl import client as client_module
from fl.client import ClientError, app
from fl.client_data import held_out
from fl.engine import AppSpec, flower
from fl.engine.app import PRIVATE_KEY, SEED_KEY
from fl.privacy import RecordLedger


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Send a training message to client 1 of 3 of the digits app."""
    monkeypatch.syspath_prepend(str(DIGITS))
    flower.set_identity(1, 1)

    def send(number=1, action="train", **config):
        run_config = {**AppSpec.load(DIGITS).config, **config}
        node = {"partition-id": 1, "num-partitions": 3, PRIVATE_KEY: str(tmp_path), SEED_KEY: 0}
        context = flower.build_context(7, 5, node, run_config)
        shapes = {
            "convolution.weight": (16, 1, 4, 4),
            "convolution.bias": 16,
            "head.weight": (10, 144),
            "head.bias": 10,
        }
        model = {name: torch.full(torch.Size(np.atleast_1d(shape)), 0.01) for name, shape in shapes.items()}
        content = RecordDict({"arrays": ArrayRecord(model), "config": ConfigRecord({"server-round": number})})
        message = Message(content, 5, action)
        flower.stamp(message, "id")
        return app(message, context)

    return send


def bits(reply):
    return [array.data for array in reply.content["arrays"].values()]


def test_a_private_reply_carries_weights_and_a_constant_weight_only(ask):
    reply = ask()
    assert sorted(reply.content) == ["arrays", "metrics"]
    assert dict(reply.content["metrics"]) == {"num-examples": 1}


def test_a_retry_resends_the_same_bytes_and_is_charged_once(ask, tmp_path):
    first = bits(ask(1))
    spent = RecordLedger(tmp_path / "ledger.sqlite").max_epsilon(1e-5)
    assert bits(ask(1)) == first
    assert RecordLedger(tmp_path / "ledger.sqlite").max_epsilon(1e-5) == spent > 0


SMALL_BUDGET = {"noise-multiplier": 2.0, "epsilon": 3.5}  # two rounds are affordable, a third is not


def test_a_retry_after_newer_events_makes_the_same_bytes_even_past_the_budget(ask):
    first = bits(ask(1, **SMALL_BUDGET))
    for number in (2, 3, 4):
        ask(number, **SMALL_BUDGET)
    assert bits(ask(1, **SMALL_BUDGET)) == first


def test_records_past_their_budget_leave_training_and_the_client_still_replies(ask, tmp_path):
    for number in range(1, 5):
        ask(number, **SMALL_BUDGET)
    assert RecordLedger(tmp_path / "ledger.sqlite").max_epsilon(1e-5) <= 3.5
    assert "have spent their budget" in (tmp_path / "client.log").read_text()


def test_what_goes_wrong_stays_on_the_client(ask, tmp_path, monkeypatch):
    def broken(self):
        raise ValueError("could not convert 'John Smith, HIV+' of record 17")

    monkeypatch.setattr(client_module._Client, "data", property(broken))
    with pytest.raises(ClientError) as caught:
        ask()
    assert "John" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "John Smith" in (tmp_path / "client.log").read_text()


def test_metrics_on_local_data_are_withheld_under_privacy(ask):
    with pytest.raises(ClientError, match="withheld"):
        ask(action="evaluate")
    assert ask(action="evaluate", privacy="off").content["metrics"]["accuracy"] >= 0


def test_noise_differs_where_anything_it_covers_differs(ask, tmp_path):
    def lose_the_ledger():
        for path in tmp_path.glob("ledger.sqlite*"):
            path.unlink()

    first = bits(ask(1))
    lose_the_ledger()
    assert bits(ask(1)) == first
    lose_the_ledger()
    other = bits(ask(1, **{"local-test-fraction": 0.21}))  # a few rows fewer
    weights = [np.frombuffer(reply[2][128:], dtype=np.float32) for reply in (first, other)]
    noise = 5.0 / 57.0 * 2.0  # standard deviation: learning rate / expected batch * noise multiplier * norm
    assert np.std(weights[0] - weights[1]) > noise  # equal noise would cancel and leave next to nothing


def test_whether_a_row_is_held_out_depends_on_its_own_id_alone():
    def kept(numbers):
        ids = np.array(numbers)
        return set(ids[~held_out(ids, 0.5, 0, keep_one=False)].tolist())

    everyone = kept(range(100))
    assert 30 < len(everyone) < 70
    for number in range(20):
        assert kept([number]) == everyone & {number}
