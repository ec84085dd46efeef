"""Which networks DP-SGD can train, told before training and by name of the offending layer."""

from torch import nn

from fl.privacy._opacus import GradSampleModule, ModuleValidator
from shards.errors import InputError


def check_private(model: nn.Module) -> None:
    """Check that every record's gradient can be told from the others'.

    Parameters
    ----------
    model : nn.Module
        The network, in training mode.

    Raises
    ------
    InputError
        If nothing is trainable, or a layer mixes the records of a batch (batch normalisation, also frozen
        or without weights), keeps statistics of the data in buffers, or has no per-record gradients in
        Opacus; the message names the layer and what to put in its place.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("the model has no trainable parameter; set requires_grad on those to be trained")
    for name, layer in model.named_modules():
        # Opacus checks trainable layers of the exact type only; a frozen or weightless batch normalisation
        # and any subclass of it mix records and collect raw statistics just the same.
        normalises = isinstance(layer, nn.modules.batchnorm._NormBase)
        trains = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        if not (normalises or trains):
            continue
        known = next((kind for kind in type(layer).__mro__ if kind in ModuleValidator.VALIDATORS), None)
        if known is not None and ModuleValidator.VALIDATORS[known](layer):
            raise InputError(
                f"layer {name or 'the model itself'!r} is {type(layer).__name__}, which DP-SGD cannot train; "
                f"replace it with {_replacement(layer, known)}"
            )
    unsupported = GradSampleModule.validate(model, strict=False)
    if unsupported:
        raise InputError(f"DP-SGD cannot train this model: {unsupported[0]}; use a layer without buffers")


def _replacement(layer: nn.Module, known: type[nn.Module]) -> str:
    """Return the layer Opacus would put in its place, as Python would write it."""
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return f"{type(layer).__name__} with track_running_stats=False"
    fixed = ModuleValidator.FIXERS[known](layer)
    package = "torch.nn" if type(fixed).__module__.startswith("torch.") else "opacus.layers"
    return f"{package}.{fixed!r}" if package == "torch.nn" else f"{package}.{type(fixed).__name__}"
