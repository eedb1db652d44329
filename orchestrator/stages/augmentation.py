"""From what a job asks for to what is done to pixels."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.dataset.manifest import StoredImage
from orchestrator.images.colour import Autocontrast, Brightness, Contrast, Equalise, Grey, Hue, Posterise, Saturation, Solarise
from orchestrator.images.detail import Blur, Erasing, Jpeg, Noise, Sharpness
from orchestrator.images.entry import Entry
from orchestrator.images.geometry import Affine, HorizontalFlip, RandomCrop, RandomResizedCrop, VerticalFlip
from orchestrator.images.policies import RandAugment, TrivialAugment
from orchestrator.images.step import Step
from orchestrator.images.view import View
from orchestrator.spec.augment import AugmentStep

STEPS: dict[str, Callable[..., Step]] = {
    "random_crop": RandomCrop,
    "random_resized_crop": RandomResizedCrop,
    "horizontal_flip": HorizontalFlip,
    "vertical_flip": VerticalFlip,
    "affine": Affine,
    "brightness": Brightness,
    "contrast": Contrast,
    "saturation": Saturation,
    "hue": Hue,
    "grey": Grey,
    "solarise": Solarise,
    "posterise": Posterise,
    "equalise": Equalise,
    "autocontrast": Autocontrast,
    "sharpness": Sharpness,
    "blur": Blur,
    "noise": Noise,
    "jpeg": Jpeg,
    "erasing": Erasing,
    "rand_augment": RandAugment,
    "trivial_augment": TrivialAugment,
}
"""Key of the job file: the step whose fields have the names of the section's keys."""


def augmentation_step(step: AugmentStep) -> Step:
    """The step with what the job says; nothing is imported for an entry before it is applied."""
    if step.entry is not None:
        return Entry(step.entry, step.kwargs or {})
    return STEPS[step.transform](**dict(getattr(step, step.transform)))


def view_of(image: StoredImage, size: int) -> View:
    """How stored pictures become square images of some side, in pixels."""
    return View(store=image.store, side=image.size, size=size, channels=image.channels, fit=image.fit)
