"""Networks of other packages, which are imported only when a job names one: transformers, timm and torchvision."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from orchestrator.entry import described
from orchestrator.errors import TrainingError
from orchestrator.spec.model import ZOOS, missing_package, zoo_of


def build_from_zoo(name: str, kwargs: Mapping[str, Any], *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The network `zoo:name` with random weights, or with what its package starts from.

    Raises:
        TrainingError: The package is missing or broken, or does not build such a network.
    """
    zoo, inside = zoo_of(name)
    package = _import(name, ZOOS[zoo])
    try:
        return BUILDERS[zoo](package, inside, kwargs, num_classes, in_channels, image_size)
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(f"{ZOOS[zoo]} does not build {name}: {described(error)}") from error


def _import(name: str, package: str) -> Any:
    """A package that is there may still not fit the torch that is installed, and then fails in many ways."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            advice = f"pip install {package} brings what it needs"
            raise TrainingError(f"{name} needs the package {package}, which fails: {described(error)}", advice) from error
        raise TrainingError(missing_package(name)) from error
    except Exception as error:
        advice = f"install the {package} that belongs to this torch"
        raise TrainingError(f"{name} needs the package {package}, which fails: {described(error)}", advice) from error


def _hf(package: Any, name: str, kwargs: Mapping[str, Any], num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """A kind of network that transformers knows, such as `vit`, or the name or folder of a stored configuration."""
    settings = {"num_labels": num_classes, "num_channels": in_channels, "image_size": image_size, **kwargs}
    configurations = package.AutoConfig
    known = name in package.CONFIG_MAPPING
    config = configurations.for_model(name, **settings) if known else configurations.from_pretrained(name, **settings)
    network: nn.Module = package.AutoModelForImageClassification.from_config(config)
    network.register_forward_hook(logits_alone)
    return network


def logits_alone(network: nn.Module, inputs: Any, output: Any) -> Tensor:  # noqa: ARG001 -- torch's interface
    """What transformers wraps in an output of many fields; a hook leaves the names of the parameters as they are."""
    return output.logits  # type: ignore[no-any-return]


def _timm(package: Any, name: str, kwargs: Mapping[str, Any], num_classes: int, in_channels: int, image_size: int) -> nn.Module:  # noqa: ARG001
    network: nn.Module = package.create_model(name, **{"pretrained": False, "num_classes": num_classes, "in_chans": in_channels, **kwargs})
    return network


def _torchvision(package: Any, name: str, kwargs: Mapping[str, Any], num_classes: int, in_channels: int, image_size: int) -> nn.Module:  # noqa: ARG001
    if in_channels != 3:  # noqa: PLR2004 -- red, green, blue
        raise TrainingError(f"torchvision:{name} takes images of 3 channels, not {in_channels}", "set data.image.channels=3")
    network: nn.Module = package.models.get_model(name, **{"weights": None, "num_classes": num_classes, **kwargs})
    return network


BUILDERS: dict[str, Callable[[Any, str, Mapping[str, Any], int, int, int], nn.Module]] = {
    "hf": _hf,
    "timm": _timm,
    "torchvision": _torchvision,
}
