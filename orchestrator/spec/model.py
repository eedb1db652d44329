"""The `model` section of a job file: which network, with which weights, and how much of it is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from orchestrator.spec.problems import given, nearest
from orchestrator.spec.section import FunctionName, Section

RESNETS = ("resnet8", "resnet20", "resnet18", "resnet34", "resnet50")
CONVNEXTS = ("convnext_femto", "convnext_nano")
VITS = ("vit_tiny", "vit_small")
NETWORKS = (*RESNETS, *CONVNEXTS, *VITS)
"""The networks that come along."""
ZOOS = {"hf": "transformers", "timm": "timm", "torchvision": "torchvision"}
"""What stands before the colon of a name: the package that builds such networks."""
DEFAULT = "resnet18"
SMALL_SIDE = 64
"""Up to this side, in pixels, `stem: auto` keeps the resolution of images."""


def zoo_of(name: str) -> tuple[str, str]:
    """`timm:convnext_atto` is `("timm", "convnext_atto")`; the zoo of a network that comes along is empty."""
    zoo, colon, inside = name.partition(":")
    return (zoo, inside) if colon else ("", name)


def missing_package(name: str) -> str:
    """What to say where the package behind a network is not installed."""
    zoo, _ = zoo_of(name)
    return f"{name} needs the package {ZOOS[zoo]}, which is not installed: pip install 'orchestrator[{zoo}]'"


def _known(name: str) -> str:
    zoo, inside = zoo_of(name)
    if name in NETWORKS or (zoo in ZOOS and inside.strip()):
        return name
    if zoo and zoo not in ZOOS:
        raise ValueError(f"must not be {given(name)}; a function of yours stands under entry, and the zoos are {', '.join(ZOOS)}")
    near = nearest(name, NETWORKS)
    hint = f'did you mean "{near}"?' if near else f"known are {', '.join(NETWORKS)}"
    raise ValueError(f"must be a known name, hf:NAME, timm:NAME or torchvision:NAME, not {given(name)}; {hint}")


NAMES = WithJsonSchema({"anyOf": [{"enum": list(NETWORKS)}, {"type": "string", "pattern": f"^({'|'.join(ZOOS)}):.+$"}]})


LayerNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]


class ModelSpec(Section):
    """Which network is trained."""

    name: Annotated[str, AfterValidator(_known), NAMES] | None = Field(
        None,
        description="resnet18 when neither this nor entry is given. resnet8 and resnet20 suit images up to 64 pixels and cores without a "
        "GPU; resnet18, 34 and 50, convnext_femto and convnext_nano, vit_tiny and vit_small larger ones. hf:NAME, timm:NAME and "
        "torchvision:NAME come from the packages transformers, timm and torchvision, with random weights unless `weights` is given.",
        json_schema_extra={"default": DEFAULT},
    )
    entry: FunctionName | None = Field(
        None,
        description='A function of yours as "module:function", from an installed package or the working directory, instead of a name. It '
        "is called with num_classes, in_channels and `kwargs`, and returns a torch.nn.Module from float images (N, channels, height, "
        "width) to logits (N, num_classes). Only the workers import it.",
    )
    kwargs: dict[str, Any] | None = Field(
        None, description="What the function of `entry`, or the package of an hf:, timm: or torchvision: network, receives besides."
    )
    stem: Literal["auto", "imagenet", "small"] = Field(
        "auto",
        description="The first layers of a resnet or convnext: imagenet divides the resolution by 4 at once, small keeps it (resnet) or "
        "halves it (convnext). auto: small for images up to 64 pixels, and always for resnet8 and resnet20.",
    )
    norm: Literal["batch", "group"] = Field(
        "batch",
        description="Of a resnet. batch: batch normalisation; group: group normalisation, which keeps no batch statistics.",
    )
    weights: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Weights to start from: a .safetensors file, or what torch.save has written of tensors alone; a path, or an address "
        "such as s3://bucket/model.safetensors. A last layer for another number of classes is replaced by a new one; every other "
        "difference is an error. Random weights when left out.",
    )
    freeze: Literal["none", "backbone"] | LayerNames = Field(
        "none",
        description="What keeps the weights it starts with: backbone is all but the last layer; or a list of layers, such as [conv1, bn1, "
        "layer1]. Frozen batch normalisation keeps its statistics as well.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_a_default(cls, value: Any) -> Any:
        return {"name": DEFAULT, **value} if isinstance(value, dict) and "entry" not in value else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.name is None) == (self.entry is None):
            raise ValueError("name and entry are two ways to say which network; give one of them")
        if self.kwargs is not None and self.name in NETWORKS:
            raise ValueError(f"kwargs belong to entry and to the networks of {', '.join(ZOOS)}; {self.name} takes none")
        if self.norm != "batch" and self.name not in RESNETS:
            raise ValueError(f"norm belongs to the resnets; {self.label} has its own")
        if self.stem != "auto" and self.name not in (*RESNETS, *CONVNEXTS):
            raise ValueError(f"stem belongs to the resnets and convnexts; {self.label} has its own")
        if self.stem == "imagenet" and self.name in RESNETS[:2]:
            raise ValueError(f"{self.name} is made for small images: stem must be auto or small")
        if self.freezes and self.weights is None and self.entry is None:
            raise ValueError("freeze would keep random values: give weights, or freeze nothing")
        return self

    @property
    def label(self) -> str:
        """What people call the network."""
        return self.name or self.entry or ""

    @property
    def is_foreign(self) -> bool:
        """Whether the network does not come along."""
        return self.name not in NETWORKS

    @property
    def freezes(self) -> bool:
        """Whether anything is frozen."""
        return self.freeze not in ("none", ())

    def has_small_stem(self, image_size: int) -> bool:
        """Whether the first layers are those for small images, of a side in pixels."""
        if self.stem == "auto":
            return image_size <= SMALL_SIDE or self.name in RESNETS[:2]
        return self.stem == "small"
