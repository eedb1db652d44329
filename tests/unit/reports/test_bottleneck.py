"""The verdict names what would help, and nothing when nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.record.folder import RunFolder
from orchestrator.reports.bottleneck import NOT_MEASURED, epoch_shares, name_limit
from orchestrator.reports.fold import fold
from orchestrator.reports.values import EpochReport

MakeRun = Callable[..., RunFolder]
Parts = tuple[float, ...]
"""Seconds waiting, computing, validating and saving; and, where given, copying to the device and synchronising."""


def epochs(parts: Sequence[Parts], seconds: float | None = None) -> tuple[EpochReport, ...]:
    return tuple(
        EpochReport(
            number=place + 1,
            train_loss=None,
            train_accuracy=None,
            validation_loss=None,
            validation_accuracy=None,
            seconds=sum(part) if seconds is None else seconds,
            images_per_s=None,
            wait_s=part[0],
            transfer_s=part[4] if len(part) > 4 else None,
            compute_s=part[1],
            sync_s=part[5] if len(part) > 4 else None,
            validate_s=part[2],
            checkpoint_s=part[3],
        )
        for place, part in enumerate(parts)
    )


@pytest.mark.parametrize(
    ("parts", "named", "knob"),
    [
        ((3.0, 6.0, 0.5, 0.5), "Waiting for images took 30%", "data.image.store: raw"),
        ((0.5, 6.0, 3.0, 0.5), "Validation took 30%", "data.split.validation"),
        ((0.5, 7.0, 0.5, 2.0), "Saving checkpoints took 20%", "train.checkpoint_s"),
        ((0.5, 9.0, 0.3, 0.2), "Computing took 90%", "model.name"),
        ((2.0, 4.0, 4.0, 0.0), "Validation took 40%", "data.split.validation"),
        ((0.5, 6.0, 0.3, 0.2, 3.0, 0.0), "Copying images to the device took 30%", "data.image.size"),
        ((1.0, 5.0, 0.3, 0.2, 0.0, 3.5), "Synchronising the workers took 35%", "train.batch"),
        ((0.9, 7.3, 0.1, 0.1, 0.9, 0.7), "Computing took 73%", "model.name"),
    ],
)
def test_the_largest_part_above_its_threshold_is_named_with_its_knob(make_run: MakeRun, parts: Parts, named: str, knob: str) -> None:
    """Each part of an epoch has a sentence of its own."""
    sentence = name_limit(replace(fold(make_run()), epochs=epochs([parts])))
    assert sentence.startswith(named)
    assert knob in sentence


def test_nothing_is_named_when_most_of_the_time_is_in_no_measured_part(make_run: MakeRun) -> None:
    """Ten seconds of which nine are unaccounted for are no verdict."""
    sentence = name_limit(replace(fold(make_run()), epochs=epochs([(0.1, 0.9, 0.0, 0.0)], seconds=10.0)))
    assert sentence.startswith("Nothing measured limits training")


def test_preparing_is_named_when_it_took_most_of_the_run(make_run: MakeRun) -> None:
    """A run that prepares longer than it trains is limited by prepare; one that reused the images is not."""
    report = fold(make_run())
    long = replace(report, stages=(replace(report.stages[0], seconds=900.0), *report.stages[1:]))
    assert name_limit(long).startswith("Preparing the images took 86%")
    assert long.data is not None
    assert name_limit(replace(long, data=replace(long.data, reused=True))).startswith("Computing")


def test_nothing_measured_is_said_so(tmp_path: Path) -> None:
    """A run that has only begun has no limit yet."""
    assert name_limit(fold(RunFolder(tmp_path / "new"))) == NOT_MEASURED


def test_before_the_first_epoch_the_steps_speak(make_run: MakeRun) -> None:
    """The share of waiting in the steps so far is told as such."""
    report = replace(fold(make_run()), epochs=())
    assert name_limit(report).startswith("No epoch has been measured yet; so far 4%")


def test_the_first_of_three_epochs_does_not_count() -> None:
    """It holds the start of the workers."""
    shares = epoch_shares(epochs([(90.0, 10.0, 0.0, 0.0), (1.0, 9.0, 0.0, 0.0), (1.0, 9.0, 0.0, 0.0)]))
    assert shares is not None
    assert shares.wait == pytest.approx(0.1)


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 6), max_size=5))
def test_shares_are_shares(parts: list[Parts]) -> None:
    """Whatever was measured, shares lie between 0 and 1 and add up to at most 1."""
    shares = epoch_shares(epochs(parts))
    values = [] if shares is None else list(asdict(shares).values())
    assert all(0 <= value <= 1 for value in values)
    assert sum(values) <= 1 + 1e-9
