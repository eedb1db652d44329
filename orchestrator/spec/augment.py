"""The `augment` list of a job file: one section for each transform of training images."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from orchestrator.spec.section import FunctionName, Section


def _is_pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004 -- two bounds
        raise ValueError("must be two numbers, the smaller one first, such as [1, 2]")
    return tuple(value)


def _ascends(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"must be two numbers, the smaller one first, not [{value[0]:g}, {value[1]:g}]")
    return value


PAIR, ASCENDING = BeforeValidator(_is_pair), AfterValidator(_ascends)
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
AreaShare = Annotated[float, Field(gt=0.0, le=1.0)]
Ratio = Annotated[float, Field(ge=0.1, le=10.0)]
Scale = Annotated[float, Field(ge=0.1, le=10.0)]
Sigma = Annotated[float, Field(ge=0.1, le=10.0)]
Deviation = Annotated[float, Field(ge=0.0, le=255.0)]
Quality = Annotated[int, Field(ge=1, le=100)]
Scales = Annotated[tuple[Scale, Scale], PAIR, ASCENDING]
AreaShares = Annotated[tuple[AreaShare, AreaShare], PAIR, ASCENDING]
Ratios = Annotated[tuple[Ratio, Ratio], PAIR, ASCENDING]
Sigmas = Annotated[tuple[Sigma, Sigma], PAIR, ASCENDING]
Deviations = Annotated[tuple[Deviation, Deviation], PAIR, ASCENDING]
Qualities = Annotated[tuple[Quality, Quality], PAIR, ASCENDING]

CHANGED = "Share of the images that are changed."
FACTOR = "A factor is drawn between 1 - amount and 1 + amount for each image; 1 changes nothing."


class HorizontalFlipSpec(Section):
    """Mirror the image left to right."""

    probability: Probability = Field(0.5, description="Share of the images that are mirrored.")


class VerticalFlipSpec(Section):
    """Mirror the image top to bottom; for images without an upright, as from above or through a microscope."""

    probability: Probability = Field(0.5, description="Share of the images that are mirrored.")


class RandomCropSpec(Section):
    """Shift the image by up to `padding` pixels."""

    padding: int = Field(4, ge=1, le=256, description="Pixels of reflected border added on every side before a crop of the original size.")


class RandomResizedCropSpec(Section):
    """Cut out a window of random size and ratio and enlarge it to the size of the image."""

    scale: AreaShares = Field((0.08, 1.0), description="Smallest and largest share of the area that is cut out.")
    ratio: Ratios = Field((0.75, 1.3333), description="Smallest and largest width by height of the window.")


class AffineSpec(Section):
    """Rotate, shift, scale and shear the image about its centre, in one step."""

    rotation: float = Field(10.0, ge=0.0, le=180.0, description="Degrees at most, either way.")
    translation: float = Field(0.1, ge=0.0, le=1.0, description="Share of each side at most, either way.")
    scale: Scales = Field((0.9, 1.1), description="Smallest and largest factor; above 1 enlarges.")
    shear: float = Field(5.0, ge=0.0, le=60.0, description="Degrees at most, along both sides, either way.")
    border: Literal["reflect", "black"] = Field("reflect", description="What stands where the image has moved away.")
    probability: Probability = Field(1.0, description=CHANGED)


class BrightnessSpec(Section):
    """Make the image darker or brighter."""

    amount: Probability = Field(0.2, description=FACTOR)
    probability: Probability = Field(1.0, description=CHANGED)


class ContrastSpec(Section):
    """Bring values nearer to the mean brightness of the image, or farther from it."""

    amount: Probability = Field(0.2, description=FACTOR)
    probability: Probability = Field(1.0, description=CHANGED)


class SaturationSpec(Section):
    """Make colours paler or stronger; leaves grey images as they are."""

    amount: Probability = Field(0.2, description=FACTOR)
    probability: Probability = Field(1.0, description=CHANGED)


class HueSpec(Section):
    """Turn colours around the circle of hues; leaves grey images as they are."""

    amount: float = Field(0.05, ge=0.0, le=0.5, description="Share of the circle at most, either way.")
    probability: Probability = Field(1.0, description=CHANGED)


class GreySpec(Section):
    """Take the colour away; leaves grey images as they are."""

    probability: Probability = Field(0.1, description=CHANGED)


class SolariseSpec(Section):
    """Invert bright values."""

    threshold: int = Field(128, ge=0, le=255, description="Values from here on are inverted.")
    probability: Probability = Field(0.2, description=CHANGED)


class PosteriseSpec(Section):
    """Keep few levels of every channel."""

    bits: int = Field(4, ge=1, le=8, description="Bits of every value that are kept; 8 changes nothing.")
    probability: Probability = Field(0.2, description=CHANGED)


class EqualiseSpec(Section):
    """Make the histogram of every channel even."""

    probability: Probability = Field(0.2, description=CHANGED)


class AutocontrastSpec(Section):
    """Stretch every channel from black to full."""

    probability: Probability = Field(0.2, description=CHANGED)


class SharpnessSpec(Section):
    """Make the image softer or sharper."""

    amount: Probability = Field(0.5, description=FACTOR)
    probability: Probability = Field(0.5, description=CHANGED)


class BlurSpec(Section):
    """Blur the image with a Gaussian."""

    sigma: Sigmas = Field((0.1, 2.0), description="Smallest and largest standard deviation, in pixels.")
    probability: Probability = Field(0.5, description=CHANGED)


class NoiseSpec(Section):
    """Add Gaussian noise to every value."""

    std: Deviations = Field((0.0, 10.0), description="Smallest and largest standard deviation, in levels of 255.")
    probability: Probability = Field(0.5, description=CHANGED)


class JpegSpec(Section):
    """Compress the image as JPEG and read it back."""

    quality: Qualities = Field((50, 95), description="Lowest and highest quality, of 100.")
    probability: Probability = Field(0.5, description=CHANGED)


class ErasingSpec(Section):
    """Replace a rectangle by random values."""

    scale: AreaShares = Field((0.02, 0.33), description="Smallest and largest share of the area that is erased.")
    ratio: Ratios = Field((0.3, 3.3), description="Smallest and largest width by height of the rectangle.")
    probability: Probability = Field(0.25, description=CHANGED)


class RandAugmentSpec(Section):
    """RandAugment: some transforms drawn for each image, all of one magnitude."""

    ops: int = Field(2, ge=1, le=10, description="Transforms applied to each image, one after the other.")
    magnitude: int = Field(9, ge=0, le=30, description="How strong they are; 0 changes least.")


class TrivialAugmentSpec(Section):
    """TrivialAugment, wide: one transform of random magnitude for each image. There is nothing to choose."""


class AugmentStep(Section):
    """One augmentation; exactly one of the keys is given. `horizontal_flip` alone stands for `{horizontal_flip: {}}`."""

    random_crop: RandomCropSpec | None = Field(None, description="Shift the image by up to `padding` pixels.")
    random_resized_crop: RandomResizedCropSpec | None = Field(None, description="Cut out a random window and enlarge it.")
    horizontal_flip: HorizontalFlipSpec | None = Field(None, description="Mirror the image left to right.")
    vertical_flip: VerticalFlipSpec | None = Field(None, description="Mirror the image top to bottom.")
    affine: AffineSpec | None = Field(None, description="Rotate, shift, scale and shear the image.")
    brightness: BrightnessSpec | None = Field(None, description="Make the image darker or brighter.")
    contrast: ContrastSpec | None = Field(None, description="Make the image duller or starker.")
    saturation: SaturationSpec | None = Field(None, description="Make colours paler or stronger.")
    hue: HueSpec | None = Field(None, description="Turn colours around the circle of hues.")
    grey: GreySpec | None = Field(None, description="Take the colour away.")
    solarise: SolariseSpec | None = Field(None, description="Invert bright values.")
    posterise: PosteriseSpec | None = Field(None, description="Keep few levels of every channel.")
    equalise: EqualiseSpec | None = Field(None, description="Make the histogram of every channel even.")
    autocontrast: AutocontrastSpec | None = Field(None, description="Stretch every channel from black to full.")
    sharpness: SharpnessSpec | None = Field(None, description="Make the image softer or sharper.")
    blur: BlurSpec | None = Field(None, description="Blur the image.")
    noise: NoiseSpec | None = Field(None, description="Add Gaussian noise.")
    jpeg: JpegSpec | None = Field(None, description="Leave the traces of JPEG.")
    erasing: ErasingSpec | None = Field(None, description="Replace a rectangle by random values.")
    rand_augment: RandAugmentSpec | None = Field(None, description="Some transforms of one magnitude, drawn for each image.")
    trivial_augment: TrivialAugmentSpec | None = Field(None, description="One transform of random magnitude, drawn for each image.")
    entry: FunctionName | None = Field(
        None,
        description='A function of yours as "module:function", from an installed package or the working directory. It is called with the '
        "image (height, width, channels; uint8), a numpy Generator and `kwargs`, and returns an image of the same shape.",
    )
    kwargs: dict[str, Any] | None = Field(None, description="What the function of `entry` receives besides the image and the randomness.")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """`horizontal_flip`, and `{horizontal_flip: }` with nothing after the colon, take every default."""
        if isinstance(value, str):
            return {value: {}}
        if isinstance(value, dict) and len(value) == 1:
            return {name: {} if options is None else options for name, options in value.items()}
        return value

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in TRANSFORMS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"must be one augmentation; {' and '.join(given)} stand together: begin each with its own -")
        if not given:
            raise ValueError(f"must be one augmentation: {', '.join(TRANSFORMS)}; nothing is given")
        if self.kwargs is not None and self.entry is None:
            raise ValueError(f"kwargs belong to entry; the keys of {given[0]} stand inside it, such as {{{given[0]}: {{...}}}}")
        return self

    @property
    def transform(self) -> str:
        """The key that is given."""
        return next(name for name in TRANSFORMS if getattr(self, name) is not None)


SECTIONS = tuple(name for name in AugmentStep.model_fields if name not in ("entry", "kwargs"))
"""The transforms that come along."""
TRANSFORMS = (*SECTIONS, "entry")
