"""DP-SGD against a hand-written reference, and at its edges."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fl.privacy import Mechanism, TrainingDivergedError, check_private, event_streams, train_private
from shards.errors import InputError

SECRET = bytes(range(32))
DEFAULTS = {
    "mechanism": Mechanism(sampling_rate=0.3, noise_multiplier=0.7, steps=5),
    "clipping_norm": 0.5,
    "expected_batch_size": 12.0,
    "learning_rate": 0.2,
    "momentum": 0.9,
    "loss_fn": nn.functional.cross_entropy,
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(3 * 16, 4))


def records(n=40, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 6, 6, generator=generator), torch.randint(0, 4, (n,), generator=generator)


def train(model, features, labels, event="round-1", **changes):
    streams = event_streams(SECRET, event, b"request")
    train_private(model, features, labels, coins=streams.coins, noise=streams.noise, **(DEFAULTS | changes))
    return model


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.state_dict().values()])


def reference(model, features, labels, event="round-1", secure_noise=True, **changes):
    """Abadi et al. 2016, algorithm 1, one record at a time."""
    options = DEFAULTS | changes
    mechanism, norm = options["mechanism"], options["clipping_norm"]
    coins, noise = event_streams(SECRET, event, b"request")
    coins.take(8)  # the dropout seed
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for _ in range(mechanism.steps):
        total = [torch.zeros_like(p) for p in parameters]
        for row in np.flatnonzero(coins.uniform(len(features)) < mechanism.sampling_rate):
            loss = options["loss_fn"](model(features[row : row + 1]), labels[row : row + 1])
            gradients = torch.autograd.grad(loss, parameters)
            length = torch.sqrt(sum((g**2).sum() for g in gradients))
            for accumulated, gradient in zip(total, gradients, strict=True):
                accumulated += gradient * min(1.0, norm / (float(length) + 1e-6))
        for p, accumulated, speed in zip(parameters, total, velocity, strict=True):
            if secure_noise:
                values = noise.gaussian(4 * p.numel()).reshape(-1, 4).sum(axis=1) / 2
            else:
                values = noise.gaussian(p.numel())
            drawn = torch.from_numpy(values).view_as(p) * mechanism.noise_multiplier * norm
            gradient = (accumulated + drawn) / options["expected_batch_size"]
            speed.mul_(options["momentum"]).add_(gradient)
            p.data.sub_(options["learning_rate"] * speed)
    return model


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("norm", [0.5, 1e-3, 1e3])  # clips some records, clips all, clips none
def test_matches_the_reference(norm, secure):
    data, start = records(), weights(network())
    changes = {
        "clipping_norm": norm,
        "secure_noise": secure,
        "mechanism": Mechanism(0.3, min(0.7, 0.35 / norm), 5),
    }
    expected = weights(reference(network(), *data, **changes)) - start
    tolerance = 1e-4 * float(expected.abs().max()) + 1e-7
    torch.testing.assert_close(weights(train(network(), *data, **changes)) - start, expected, rtol=0, atol=tolerance)


def test_matches_the_reference_for_shared_and_frozen_layers():
    def model():
        layer = nn.Linear(4, 4)
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), layer, nn.Tanh(), layer, nn.Linear(4, 4))
        net.load_state_dict(
            {name: torch.linspace(-1, 1, v.numel()).view_as(v) for name, v in net.state_dict().items()}
        )
        return net

    data = records()
    torch.testing.assert_close(
        weights(train(model(), *data)), weights(reference(model(), *data)), rtol=1e-4, atol=1e-5
    )
    frozen = model()
    frozen[1].requires_grad_(False)
    before = frozen[1].weight.clone()
    train(frozen, *data)
    assert torch.equal(frozen[1].weight, before)


def test_same_inputs_give_the_same_bits_whatever_torch_did_before():
    data, results = records(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = nn.Sequential(network(), nn.Dropout(0.3), nn.Linear(4, 4))
        model.load_state_dict({name: torch.full_like(v, 0.1) for name, v in model.state_dict().items()})
        state = torch.random.get_rng_state()
        results.append(weights(train(model, *data)))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(*results)


def test_another_event_draws_other_records_and_noise():
    data = records()
    assert not torch.equal(weights(train(network(), *data)), weights(train(network(), *data, event="round-2")))


@pytest.mark.parametrize("secure", [True, False])
def test_noise_has_the_accounted_scale(secure):
    # No record: each event moves by noise alone, standard deviation σC·lr/B per coordinate.
    start, moves = weights(network()), []
    mechanism = Mechanism(0.3, 0.7, 1)
    for event in range(60):
        model = train(network(), *records(0), event=str(event), mechanism=mechanism, secure_noise=secure)
        moves.append(weights(model) - start)
    values = torch.stack(moves).double().numpy().ravel() / (0.7 * 0.5 * 0.2 / 12)
    assert values.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(values)))
    assert abs(values.mean()) < 4 / np.sqrt(len(values))
    assert stats.kstest(values, "norm").pvalue > 0.001


def test_one_record_moves_a_step_by_at_most_its_clipped_gradient():
    features, labels = records()
    mechanism = Mechanism(1.0, 1e-3, 1)  # everybody is drawn
    with_it = train(network(), features * 100, labels, mechanism=mechanism)
    without = train(network(), features[:-1] * 100, labels[:-1], mechanism=mechanism)
    moved = float((weights(with_it) - weights(without)).norm())
    assert 0 < moved <= 0.2 * 0.5 / 12 * (1 + 1e-3)


def test_empty_draws_still_take_noisy_steps():
    data = records()
    rare = Mechanism(1e-12, 0.7, 3)
    model = train(network(), *data, mechanism=rare)
    assert torch.equal(weights(model), weights(train(network(), *records(0), mechanism=rare)))
    torch.testing.assert_close(weights(model), weights(reference(network(), *data, mechanism=rare)))
    assert not torch.equal(weights(model), weights(network()))


def test_divisor_is_configured_not_drawn():
    mechanism = Mechanism(1.0, 1e-6, 1)
    start = weights(network())
    moves = [
        weights(train(network(), *records(), mechanism=mechanism, expected_batch_size=size)) - start
        for size in (10, 40)
    ]
    torch.testing.assert_close(moves[0], 4 * moves[1], rtol=1e-3, atol=1e-6)


def test_physical_batches_only_bound_memory():
    data = records()
    whole, parts = train(network(), *data), train(network(), *data, max_physical_batch=3)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-4, atol=1e-6)


def test_the_model_comes_back_as_it_was():
    model = network().eval()
    before = [set(vars(module)) for module in model.modules()]
    train(model, *records())
    assert [set(vars(module)) for module in model.modules()] == before
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not any(vars(parameter) or parameter.grad is not None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    copy.deepcopy(model)(records()[0])


def test_the_model_is_clean_after_a_failure_too():
    model = network()
    before = [set(vars(module)) for module in model.modules()]
    with pytest.raises(RuntimeError):
        train(model, torch.randn(40, 2, 6, 6), records()[1])
    assert [set(vars(module)) for module in model.modules()] == before
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    train(model, *records())


class Counter(nn.Module):
    """Passes its input on and counts rows in a buffer, as a careless layer might."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(()))

    def forward(self, features):
        self.rows += len(features)
        return features


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.BatchNorm2d(3), r"layer '1' is BatchNorm2d.*torch\.nn\.GroupNorm\(1, 3"),
        (nn.BatchNorm2d(3, affine=False), "BatchNorm2d.*GroupNorm"),
        (nn.BatchNorm2d(3).requires_grad_(False), "BatchNorm2d.*GroupNorm"),
        (type("Mine", (nn.BatchNorm2d,), {})(3), "Mine.*GroupNorm"),
        (nn.InstanceNorm2d(3, track_running_stats=True), "InstanceNorm2d with track_running_stats=False"),
        (nn.LSTM(3, 3), r"LSTM.*opacus\.layers\.DPLSTM"),
        (nn.MultiheadAttention(4, 2), r"opacus\.layers\.DPMultiheadAttention"),
    ],
)
def test_layers_that_cannot_be_private_are_named(layer, says):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), layer, nn.Flatten(), nn.Linear(48, 4))
    with pytest.raises(InputError, match=says) as caught:
        train(model, *records())
    assert "\n" not in str(caught.value)


def test_private_models_pass():
    check_private(network())
    check_private(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.InstanceNorm1d(3)))


def test_a_buffer_that_takes_in_data_is_refused():
    with pytest.raises(InputError, match=r"buffer '0\.rows' changed"):
        train(nn.Sequential(Counter(), network()), *records())


def test_an_unused_parameter_is_named():
    model = network()
    model[1].idle = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"parameter '1\.idle\.weight' plays no part"):
        train(model, *records())
    with pytest.raises(InputError, match="no trainable parameter"):
        train(network().requires_grad_(False), *records())


def test_a_record_without_a_finite_gradient_contributes_nothing():
    features, labels = records()
    everyone = {"mechanism": Mechanism(1.0, 1.0, 2)}
    without = weights(train(network(), features[1:], labels[1:], **everyone))
    features[0] = float("nan")
    spoilt = weights(train(network(), features, labels, **everyone))
    assert spoilt.isfinite().all()
    assert torch.allclose(spoilt, without, atol=1e-6)
    features[:] = float("inf")
    nobody = weights(train(network(), features[:0], labels[:0], **everyone))
    assert torch.equal(weights(train(network(), features, labels, **everyone)), nobody)


def test_divergence_is_an_error():
    with pytest.raises(TrainingDivergedError, match="not finite"):
        train(network(), *records(), learning_rate=3e38, expected_batch_size=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clipping_norm": 0.0}, "clipping norm is 0.0"),
        ({"expected_batch_size": float("inf")}, "expected batch size is inf"),
        ({"learning_rate": -1.0}, "learning rate is -1.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"max_physical_batch": 0}, "max physical batch is 0"),
        ({"loss_fn": nn.CrossEntropyLoss(reduction="sum")}, "reduction='mean'"),
    ],
)
def test_bad_settings_are_named(changes, says):
    with pytest.raises(InputError, match=says):
        train(network(), *records(), **changes)


def test_rows_and_labels_must_match():
    features, labels = records()
    with pytest.raises(InputError, match="40 records but 39 labels"):
        train(network(), features, labels[:-1])
