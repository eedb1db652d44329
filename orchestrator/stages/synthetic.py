"""A feed that costs nothing: one batch from memory, over and over. What training reaches with it is the ceiling for any feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from orchestrator.stages.feed import Feed, Span, evaluation_order, read_span, spans
from orchestrator.training.batch import Batch, Phase


def repeated_batches(feed: Feed, rank: int) -> Iterator[Batch]:
    """What one rank is due of a feed that trains: indices, phases, steps and shapes are those of the feed, the images those of one batch.

    That one is a training micro-batch, augmented as in the first epoch. The shards are read for it, and not again.
    """
    assert feed.train is not None  # noqa: S101 -- only training has a ceiling
    (read,) = read_span(feed, Span(rank, Phase.TRAIN, 0, rank, rank + 1))
    order = evaluation_order(feed)
    validation_rows = sum(order.unit_rows)
    places = np.arange(min(order.batch_rows, validation_rows)) % len(read.labels)
    validation = replace(read, images=read.images[places], labels=read.labels[places], ids=read.ids[places])
    for span in spans(feed):
        for number in range(span.first, span.stop):
            index = span.index + number - span.first
            if index % feed.workers != rank:
                continue
            if span.phase is Phase.TRAIN:
                yield replace(read, index=index, epoch=span.epoch, step=number // feed.train.micro_batches)
            else:
                rows = min(order.batch_rows, max(0, validation_rows - number * order.batch_rows))
                yield _first_rows(validation, rows, index, span, number)


def _first_rows(batch: Batch, rows: int, index: int, span: Span, step: int) -> Batch:
    return Batch(index, span.phase, span.epoch, step, batch.images[:rows], batch.labels[:rows], batch.ids[:rows])
