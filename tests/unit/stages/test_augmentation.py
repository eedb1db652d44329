"""What a job asks for becomes what is done to pixels."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from orchestrator.images.entry import Entry
from orchestrator.spec.augment import SECTIONS, AugmentStep
from orchestrator.spec.fields import section_in
from orchestrator.stages.augmentation import STEPS, augmentation_step


def test_every_transform_of_the_job_file_has_its_step() -> None:
    """None is missing and none is unreachable."""
    assert tuple(STEPS) == SECTIONS


@pytest.mark.parametrize("name", SECTIONS)
def test_the_keys_of_a_section_are_the_fields_of_its_step(name: str) -> None:
    """So that nothing a user writes is lost on the way."""
    section = section_in(AugmentStep.model_fields[name].annotation)
    assert section is not None
    assert set(section.model_fields) == set(inspect.signature(STEPS[name]).parameters)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_step_holds_what_the_job_says(name: str) -> None:
    """Value for value, with the defaults."""
    asked = AugmentStep.model_validate({name: {}})
    step: Any = augmentation_step(asked)
    assert vars(step) == dict(getattr(asked, name))


def test_an_entry_is_carried_by_name() -> None:
    """With its arguments; its module need not exist here."""
    asked = AugmentStep.model_validate({"entry": "not_there.at_all:fade", "kwargs": {"strength": 0.5}})
    assert augmentation_step(asked) == Entry("not_there.at_all:fade", {"strength": 0.5})
