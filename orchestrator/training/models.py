"""Networks by the names of the job file."""

from __future__ import annotations

import torch
from torch import nn

from orchestrator.entry import described, import_function
from orchestrator.errors import TrainingError
from orchestrator.spec.model import ModelSpec, zoo_of
from orchestrator.training import convnext, resnet, vit
from orchestrator.training.zoos import build_from_zoo


def build_model(spec: ModelSpec, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """A network that takes float images (N, in_channels, image_size, image_size) to logits (N, num_classes).

    Its weights are random, the caller has seeded torch; or those that a function of the user's has loaded.

    Raises:
        TrainingError: The network cannot be had, or does not take images of this size.
    """
    if spec.name is None:
        return _build_own(spec, num_classes, in_channels, image_size)
    if zoo_of(spec.name)[0]:
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        return build_from_zoo(spec.name, spec.kwargs or {}, **sizes)
    small = spec.has_small_stem(image_size)
    if layout := resnet.LAYOUTS.get(spec.name):
        norm = resnet.NORMS[spec.norm]
        return resnet.ResNet(layout, norm, small_stem=small, in_channels=in_channels, num_classes=num_classes)
    if shape := convnext.LAYOUTS.get(spec.name):
        least = convnext.stem_patch(small=small) * convnext.SHORTENED_BY
        if image_size < least:
            raise TrainingError(f"{spec.name} needs images of at least {least} pixels, not {image_size}", f"set data.image.size={least}")
        return convnext.ConvNeXt(shape, small_stem=small, in_channels=in_channels, num_classes=num_classes)
    patch = vit.patch_size(image_size)
    if patch is None:
        near = min((size for size in range(8, 1025) if vit.patch_size(size)), key=lambda size: abs(size - image_size))
        raise TrainingError(f"images of {image_size} pixels do not divide into patches for {spec.name}", f"set data.image.size={near}")
    size = vit.LAYOUTS[spec.name]
    return vit.VisionTransformer(size, image_size=image_size, patch=patch, in_channels=in_channels, num_classes=num_classes)


@torch.no_grad()
def _build_own(spec: ModelSpec, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """What the user's function returns, tried on two black images."""
    entry = spec.entry or ""
    function = import_function(entry, "network")
    try:
        network = function(num_classes=num_classes, in_channels=in_channels, **(spec.kwargs or {}))
    except Exception as error:
        raise TrainingError(f"the network {entry} failed: {described(error)}") from error
    if not isinstance(network, nn.Module):
        raise TrainingError(f"the network {entry} returned {type(network).__name__}, not a torch.nn.Module")
    images = torch.zeros(2, in_channels, image_size, image_size)
    try:
        logits = network.eval()(images)
    except Exception as error:
        raise TrainingError(f"the network {entry} failed with images of {tuple(images.shape)}: {described(error)}") from error
    check_logits(logits, len(images), num_classes, entry)
    return network.train()


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def head_of(model: nn.Module, num_classes: int) -> str:
    """Name of the layer that gives the logits: the last linear layer, or convolution, with an output for each class.

    Raises:
        TrainingError: There is none.
    """
    names: list[str] = [name for name, module in model.named_modules() if _outputs(module) == num_classes]
    if not names:
        raise TrainingError(f"the network has no linear layer or convolution with {num_classes} outputs, so its last layer is unknown")
    return names[-1]


def _outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None


def below(name: str, prefix: str) -> bool:
    """Whether a parameter or module is `prefix`, or inside it."""
    return name == prefix or name.startswith(f"{prefix}.") or not prefix


def check_logits(logits: torch.Tensor, rows: int, num_classes: int, label: str) -> None:
    """Raises:
    TrainingError: The network returned something else than a logit for each image and class.
    """
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (rows, num_classes):
        raise TrainingError(
            f"the network {label} returned {found} for {rows} images and {num_classes} classes, not ({rows}, {num_classes})"
        )
