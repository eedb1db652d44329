"""ConvNeXt, ViT, the stems, and networks that a function or another package builds.

The packages timm, torchvision and transformers are not needed by the project, so small packages of the same names stand in for them
here: what is tested is how they are asked, and what is said when they are missing, broken, or refuse.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from orchestrator.entry import import_function
from orchestrator.errors import TrainingError
from orchestrator.spec.model import NETWORKS, ModelSpec
from orchestrator.training.cost import model_facts
from orchestrator.training.export import load_model, write_model
from orchestrator.training.models import build_model, count_parameters, head_of
from orchestrator.training.vit import patch_size

STAND_INS = ("timm", "torchvision", "transformers", "own_networks")
NET = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, classes, channels, width=4):
        super().__init__()
        self.stem, self.classifier = torch.nn.Conv2d(channels, width, 3), torch.nn.Linear(width, classes)

    def forward(self, x):
        return self.classifier(self.stem(x).mean((2, 3)))
"""
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a package; it is found first, and forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in STAND_INS}

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(NET + code)

    yield write
    import_function.cache_clear()
    for name in STAND_INS:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def build(size: int = 32, classes: int = 7, channels: int = 3, **spec: object) -> torch.nn.Module:
    return build_model(ModelSpec(**spec), num_classes=classes, in_channels=channels, image_size=size)  # type: ignore[arg-type]


def convnext_parameters(blocks: tuple[int, ...], widths: tuple[int, ...]) -> int:
    """Counted from the description of the paper: stem, blocks, a norm and a 2x2 convolution between stages, norm and classifier."""
    stem = 3 * 4 * 4 * widths[0] + widths[0] + 2 * widths[0]
    block = {w: (49 * w + w) + 2 * w + (4 * w * w + 4 * w) + (4 * w * w + w) + w for w in widths}
    between = [2 * a + 4 * a * b + b for a, b in pairwise(widths)]
    return stem + sum(n * block[w] for n, w in zip(blocks, widths, strict=True)) + sum(between) + 2 * widths[-1] + 1000 * widths[-1] + 1000


def vit_parameters(width: int, depth: int) -> int:
    """Counted from the description of the paper: patches of 16, positions of 14 x 14 patches and the class token, blocks, classifier."""
    embed = 3 * 16 * 16 * width + width + width + 197 * width
    block = 4 * width + (3 * width * width + 3 * width) + (width * width + width) + (8 * width * width + 5 * width)
    return embed + depth * block + 2 * width + 1000 * width + 1000


@pytest.mark.parametrize(
    ("name", "by_formula", "published"),
    [
        ("convnext_femto", convnext_parameters((2, 2, 6, 2), (48, 96, 192, 384)), 5_217_784),
        ("convnext_nano", convnext_parameters((2, 2, 8, 2), (80, 160, 320, 640)), 15_593_560),
        ("vit_tiny", vit_parameters(192, 12), 5_717_416),
        ("vit_small", vit_parameters(384, 12), 22_050_664),
    ],
)
def test_networks_have_the_parameters_of_the_papers(name: str, by_formula: int, published: int) -> None:
    """For 224 pixels and 1,000 classes, by the formula and as timm counts them."""
    assert count_parameters(build(224, 1000, name=name)) == by_formula == published


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3)])
def test_every_network_takes_small_images(name: str, size: int, channels: int) -> None:
    """Logits have one column a class; the last layer is found, and the layers of the network hold every parameter once."""
    model = build(size, channels=channels, name=name)
    assert model.eval()(torch.zeros(2, channels, size, size)).shape == (2, 7)
    assert head_of(model, 7) in ("fc", "head.fc", "head")
    layers = [prefix for layer in model.layers for prefix in layer]  # type: ignore[union-attr]
    for parameter, _ in model.named_parameters():
        assert len([prefix for prefix in layers if parameter == prefix or parameter.startswith(f"{prefix}.")]) == 1, parameter


def test_names_and_shapes_are_timms() -> None:
    """Weight files of timm fit: these names and shapes are taken from its files."""
    convnext = build(224, 1000, name="convnext_femto").state_dict()
    vit = build(224, 1000, name="vit_tiny").state_dict()
    block = [
        "gamma",
        "conv_dw.weight",
        "conv_dw.bias",
        "norm.weight",
        "norm.bias",
        *(f"mlp.fc{n}.{p}" for n in (1, 2) for p in ("weight", "bias")),
    ]
    assert [name.removeprefix("stages.1.blocks.0.") for name in convnext if name.startswith("stages.1.blocks.0.")] == block
    assert convnext["stages.1.downsample.1.weight"].shape == (96, 48, 2, 2)
    assert convnext["stages.3.blocks.1.mlp.fc1.weight"].shape == (1536, 384, 1, 1)
    assert {"stem.0.weight", "stem.1.bias", "head.norm.weight", "head.fc.bias"} <= convnext.keys()
    assert vit["pos_embed"].shape == (1, 197, 192)
    assert vit["blocks.11.attn.qkv.weight"].shape == (576, 192)
    assert {
        "cls_token",
        "patch_embed.proj.weight",
        "blocks.0.norm2.bias",
        "blocks.0.mlp.fc2.bias",
        "norm.weight",
        "head.bias",
    } <= vit.keys()


def test_the_stem_follows_the_image() -> None:
    """Images up to 64 pixels keep their resolution, larger ones do not, unless the job says so."""
    assert build(64, name="resnet18").conv1.kernel_size == (3, 3)  # type: ignore[union-attr]
    assert build(65, name="resnet18").conv1.kernel_size == (7, 7)  # type: ignore[union-attr]
    assert build(32, name="resnet18", stem="imagenet").conv1.kernel_size == (7, 7)  # type: ignore[union-attr]
    assert build(224, name="resnet8").conv1.kernel_size == (3, 3)  # type: ignore[union-attr]
    assert build(64, name="convnext_femto").stem[0].stride == (2, 2)  # type: ignore[index, union-attr]
    assert build(224, name="convnext_femto").stem[0].stride == (4, 4)  # type: ignore[index, union-attr]


def test_patches_follow_the_image() -> None:
    """16 pixels where that is enough, as in the papers, and never so many patches that attention gets expensive."""
    assert {size: patch_size(size) for size in (8, 16, 28, 32, 64, 96, 128, 224, 384, 512, 1024)} == {
        8: 1, 16: 2, 28: 4, 32: 4, 64: 8, 96: 12, 128: 16, 224: 16, 384: 16, 512: 16, 1024: 32,
    }  # fmt: skip
    assert patch_size(223) is None


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("vit_tiny", 223, "images of 223 pixels do not divide into patches for vit_tiny\n  next: set data.image.size=224"),
        ("convnext_femto", 12, "convnext_femto needs images of at least 16 pixels, not 12\n  next: set data.image.size=16"),
    ],
)
def test_a_size_that_does_not_fit_names_one_that_does(name: str, size: int, found: str) -> None:
    """Before anything is computed."""
    with pytest.raises(TrainingError, match=found):
        build(size, name=name)


OWN = """
def build(num_classes, in_channels, width=4):
    return Net(num_classes, in_channels, width)

def other(num_classes, in_channels):
    return Net(num_classes + 1, in_channels)

def nothing(num_classes, in_channels):
    return "a network"

def fails(num_classes, in_channels):
    raise ValueError("no such luck")

def large(num_classes, in_channels):
    return torch.nn.Conv2d(in_channels, num_classes, 64)

class Shared(Net):
    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.again = torch.nn.Linear(4, classes)
        self.again.weight = self.classifier.weight

    def forward(self, x):
        return super().forward(x) + self.again(self.stem(x).amax((2, 3)))

def shared(num_classes, in_channels):
    return Shared(num_classes, in_channels)
"""


def test_a_function_of_the_users_builds_the_network(write: Write) -> None:
    """It is called with classes, channels and kwargs, from the working directory, and its network is ready to train."""
    write("own_networks", OWN)
    model = build(entry="own_networks:build", kwargs={"width": 9}, channels=1)
    assert model.training
    assert model.stem.weight.shape == (9, 1, 3, 3)  # type: ignore[union-attr]


def test_layers_may_share_their_weights(write: Write, tmp_path: Path) -> None:
    """The model folder gives back a network that says the same."""
    write("own_networks", OWN)
    spec, images = ModelSpec(entry="own_networks:shared"), torch.rand(2, 3, 32, 32)
    model = build(entry="own_networks:shared").eval()
    write_model(tmp_path / "model", model, spec, tuple("abcdefg"), {"channels": 3, "size": 32}, epoch=0)
    assert torch.equal(load_model(tmp_path / "model")[0].eval()(images), model(images))


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("other", r"own_networks:other returned \(2, 8\) for 2 images and 7 classes"),
        ("nothing", "own_networks:nothing returned str, not a torch.nn.Module"),
        ("fails", r"own_networks:fails failed: ValueError: no such luck \(.*own_networks.py:\d+\)"),
        ("large", r"own_networks:large failed with images of \(2, 3, 32, 32\): RuntimeError"),
        ("biuld", "the network own_networks:biuld cannot be imported: AttributeError"),
    ],
)
def test_what_is_wrong_with_it_is_one_error_that_names_it(write: Write, function: str, found: str) -> None:
    """An exception of its own, another shape of logits, or no network at all."""
    write("own_networks", OWN)
    with pytest.raises(TrainingError, match=found):
        build(entry=f"own_networks:{function}")


TIMM = """
def create_model(name, pretrained, num_classes, in_chans, **kwargs):
    if name != "tiny":
        raise RuntimeError(f"Unknown model ({name})")
    assert not pretrained
    return Net(num_classes, in_chans, **kwargs)
"""
TORCHVISION = """
class models:
    @staticmethod
    def get_model(name, weights, num_classes, **kwargs):
        assert weights is None
        return Net(num_classes, 3, **kwargs)
"""
TRANSFORMERS = """
from types import SimpleNamespace
CONFIG_MAPPING = {"tiny": None}

class AutoConfig:
    @staticmethod
    def for_model(name, **settings):
        return SimpleNamespace(origin="kind", **settings)

    @staticmethod
    def from_pretrained(name, **settings):
        raise OSError(f"{name} is not a local folder and is not a valid model identifier")

class Wrapped(Net):
    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x), hidden_states=None)

class AutoModelForImageClassification:
    @staticmethod
    def from_config(config):
        assert config.image_size == 32
        return Wrapped(config.num_labels, config.num_channels, config.hidden_size)
"""


@pytest.mark.parametrize(
    ("package", "code", "name", "kwargs"),
    [
        ("timm", TIMM, "timm:tiny", {"width": 6}),
        ("torchvision", TORCHVISION, "torchvision:tiny", {"width": 6}),
        ("transformers", TRANSFORMERS, "hf:tiny", {"hidden_size": 6}),
    ],
)
def test_a_zoo_is_asked_for_classes_channels_and_kwargs(write: Write, package: str, code: str, name: str, kwargs: dict[str, int]) -> None:
    """The network gives plain logits, and its parameters keep the names of its package."""
    write(package, code)
    model = build(name=name, kwargs=kwargs)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sorted(model.state_dict()) == ["classifier.bias", "classifier.weight", "stem.bias", "stem.weight"]
    assert model.stem.weight.shape[0] == 6  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("package", "code", "name", "found"),
    [
        ("timm", TIMM, "timm:tini", r"timm does not build timm:tini: RuntimeError: Unknown model \(tini\)"),
        ("transformers", TRANSFORMERS, "hf:someone/net", "transformers does not build hf:someone/net: OSError: someone/net is not a local"),
        (
            "timm",
            "\nimport a_library_that_is_not_there",
            "timm:tiny",
            "needs the package timm, which fails: ModuleNotFoundError.*a_library.*\n.*pip install timm brings",
        ),
        (
            "torchvision",
            "\nraise RuntimeError('operator torchvision::nms does not exist')",
            "torchvision:tiny",
            "torchvision, which fails: RuntimeError: operator torchvision::nms does not exist .*\n.*install the torchvision that belongs",
        ),
    ],
)
def test_a_zoo_that_fails_is_one_error_that_names_it(write: Write, package: str, code: str, name: str, found: str) -> None:
    """An unknown network, and a package that does not fit the torch that is installed."""
    write(package, code)
    with pytest.raises(TrainingError, match=found):
        build(name=name)


def test_a_zoo_that_does_not_tell_its_layers_is_found_out_by_the_plan(write: Write) -> None:
    """`train.layer_decay` needs them: said before anything starts, not by the workers."""
    write("timm", TIMM)
    sizes = {"num_classes": 7, "in_channels": 3, "image_size": 32}
    with pytest.raises(TrainingError, match=r"train\.layer_decay: the network does not tell its layers"):
        model_facts(ModelSpec(name="timm:tiny"), None, **sizes, layer_decay=0.75)
    assert model_facts(ModelSpec(name="timm:tiny"), None, **sizes).trained == 4 * 27 + 4 + 7 * 4 + 7


def test_torchvision_takes_colour_alone(write: Write) -> None:
    """Grey images are refused with the key to change."""
    write("torchvision", TORCHVISION)
    with pytest.raises(TrainingError, match=r"takes images of 3 channels, not 1\n.*data\.image\.channels=3"):
        build(name="torchvision:tiny", channels=1)
