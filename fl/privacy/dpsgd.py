"""DP-SGD for one training event: Opacus clips and steps, keyed streams toss the coins and make the noise."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fl.privacy._opacus import DPOptimizer, GradSampleModule
from fl.privacy.accounting import Mechanism
from fl.privacy.errors import TrainingDivergedError
from fl.privacy.prf import Stream
from fl.privacy.private_model import check_private
from shards.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps (outputs, labels) of a batch to the mean over its records of a loss of each record alone."""


def train_private(
    model: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    mechanism: Mechanism,
    clipping_norm: float,
    expected_batch_size: float,
    learning_rate: float,
    momentum: float,
    loss_fn: Loss,
    coins: Stream,
    noise: Stream,
    secure_noise: bool = True,
    max_physical_batch: int = 256,
) -> None:
    """Train a model in place for one event, every step clipped and noised.

    Parameters
    ----------
    model : nn.Module
        The network; each output row must depend on its own input row alone. It keeps neither wrapper, hooks
        nor gradients.
    features : Tensor
        Inputs of all eligible records, shape (n, ...), by increasing record id: the i-th coin of a step is
        the i-th record's. n may be 0; then the steps are noise alone.
    labels : Tensor
        Labels, shape (n,) or (n, ...), in the same order.
    mechanism : Mechanism
        Sampling rate, noise multiplier and number of steps.
    clipping_norm : float
        Bound C on the L2 norm of one record's gradient over all parameters, in units of the loss.
    expected_batch_size : float
        Configured divisor B of every step's sum of gradients; never the number of records drawn, which is
        secret.
    learning_rate : float
        Step size of SGD, positive.
    momentum : float
        Momentum of SGD, in [0, 1); it starts at rest in every event.
    loss_fn : callable
        See `Loss`. One that mixes records breaks the guarantee.
    coins : Stream
        Decides who enters each step, and seeds dropout.
    noise : Stream
        Must not have been used for anything else.
    secure_noise : bool, default True
        Make each noise value from four Gaussian values as in Opacus' secure mode (Holohan and Braghin,
        *Secure Random Sampling in Differential Privacy*, 2021), which hides the gaps floating point leaves
        between single ones. It makes noise four times as costly.
    max_physical_batch : int, default 256
        Most records whose gradients are in memory at a time. Bounds memory; changes sums in the last bits.

    Raises
    ------
    InputError
        If an argument is outside its range, the model cannot be trained with DP-SGD (see `check_private`),
        a trainable parameter plays no part in the loss, or a buffer changed in training: buffers leave
        without noise.
    TrainingDivergedError
        If a parameter ends NaN or infinite. That it happened depends on the data: report it to no one else.

    Notes
    -----
    Abadi et al., *Deep Learning with Differential Privacy* (2016), algorithm 1, with Poisson sampling: a step
    moves by (sum of clipped gradients + N(0, σ²C²)) / B, also when the draw is empty. Equal arguments
    give equal bits where torch computes on one thread (`torch.set_num_threads(1)`).
    """
    _check_arguments(features, labels, clipping_norm, expected_batch_size, learning_rate, momentum, loss_fn)
    if max_physical_batch < 1:
        raise InputError(f"max physical batch is {max_physical_batch}; give an integer of at least 1")
    # The mask of one record's dropout depends on who else is in the batch, so its seed must be as secret as
    # the coins.
    dropout_seed = int.from_bytes(coins.take(8), "little") >> 1
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _seeded(dropout_seed), _per_record_gradients(model) as wrapped:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = _KeyedNoiseOptimizer(
            torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum),
            noise=noise,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=expected_batch_size,
            secure_mode=secure_noise,
        )
        for _ in range(mechanism.steps):
            drawn = torch.from_numpy(np.flatnonzero(coins.uniform(len(features)) < mechanism.sampling_rate))
            # An empty draw is one empty chunk: the step is taken and noised all the same.
            chunks = torch.split(drawn, max_physical_batch)
            for number, rows in enumerate(chunks, start=1):
                optimizer.zero_grad()
                if len(rows):
                    loss_fn(wrapped(features[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
                    _check_gradients(model)
                else:
                    for parameter in parameters:  # not every model can be run on no rows
                        none = parameter.new_zeros((0, *parameter.shape))
                        parameter.grad_sample = none  # type: ignore[attr-defined]
                optimizer.signal_skip_step(do_skip=number < len(chunks))
                optimizer.step()
    _check_result(model, buffers)


class _KeyedNoiseOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with noise from a keyed stream in place of torch's generator."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, noise: Stream, **options: float) -> None:
        super().__init__(optimizer, **options)
        self._noise = noise

    def clip_and_accumulate(self) -> None:
        """Clip and sum, leaving out any record whose gradient is not finite.

        No clipping bounds NaN or infinity: one such record would spoil every weight, which tells that it is there.
        """
        finite = torch.stack([sample.flatten(1).isfinite().all(dim=1) for sample in self.grad_samples]).all(dim=0)
        for parameter in self.params:
            sample = self._get_flat_grad_sample(parameter)
            keep = finite.view(-1, *[1] * (sample.dim() - 1))
            parameter.grad_sample = torch.where(keep, sample, torch.zeros_like(sample))
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Set each parameter's gradient to its clipped sum plus noise of standard deviation σC."""
        scale = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            if self.secure_mode:
                values = self._noise.gaussian(4 * parameter.numel()).reshape(-1, 4).sum(axis=1) / 2
            else:
                values = self._noise.gaussian(parameter.numel())
            drawn = torch.from_numpy(values * scale).to(parameter.device).view_as(parameter)
            # Added in double precision and rounded once, so that the sum and not the noise is rounded.
            parameter.grad = (parameter.summed_grad.double() + drawn).to(parameter.dtype)


@contextmanager
def _per_record_gradients(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model in training mode under Opacus' hooks, and take all traces off again."""
    training = {module: module.training for module in model.modules()}
    model.train()
    try:
        check_private(model)
        wrapped = GradSampleModule(model, loss_reduction="mean")
        try:
            with warnings.catch_warnings():
                # The first layer's input is data, which needs no gradient; torch warns that the hook fires
                # all the same.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                yield wrapped
        finally:
            wrapped.to_standard_module()
            for module in model.modules():  # left behind with a batch's activations if a pass was cut short
                module.__dict__.pop("activations", None)
                module.__dict__.pop("max_batch_len", None)
            for parameter in model.parameters():
                parameter.__dict__.pop("summed_grad", None)
                parameter.grad = None
    finally:
        for module, was_training in training.items():
            module.training = was_training


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator for a block, then put back its state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _check_arguments(
    features: Tensor,
    labels: Tensor,
    clipping_norm: float,
    expected_batch_size: float,
    learning_rate: float,
    momentum: float,
    loss_fn: Loss,
) -> None:
    if len(features) != len(labels):
        raise InputError(f"there are {len(features)} records but {len(labels)} labels; give each record one label")
    positive = {
        "clipping norm": clipping_norm,
        "expected batch size": expected_batch_size,
        "learning rate": learning_rate,
    }
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; give a positive number")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum is {momentum}; give a number of at least 0 and below 1")
    if getattr(loss_fn, "reduction", "mean") != "mean":
        raise InputError("the loss must be the mean over a batch; build it with reduction='mean'")


def _check_gradients(model: nn.Module) -> None:
    """Raise if the backward pass left a trainable parameter without per-record gradients."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and getattr(parameter, "grad_sample", None) is None:
            raise InputError(f"parameter {name!r} plays no part in the loss; freeze it with requires_grad_(False)")


def _check_result(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Raise if a parameter is not finite, or a buffer has taken in something of the data."""
    for name, buffer in model.named_buffers():
        if name not in buffers or not torch.equal(buffer, buffers[name]):
            raise InputError(
                f"buffer {name!r} changed in training and carries no noise; remove it for private training"
            )
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainingDivergedError(
                f"training diverged: parameter {name!r} is not finite; lower the learning rate"
            )
