"""Training steps against plain DistributedDataParallel; what a checkpoint costs; how soon the first step, and one after a loss, is done.

Run it with `make bench-train`. Everything is a program of its own, as a user starts it: `orchestrator train` starts Ray and a worker group,
torchrun starts its processes. Both train on the CPU, with the same network, batch, micro-batches and threads; what ours does besides
is measured with images from memory, as the other loop has them, and with prepared ones, that are read and augmented beside the training.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain_ddp import Order
from processes import plain_environment
from start import parser_of, say
from table import Measure, Rounds, Row, fact_ratios, interleave, median_fact, publish, row_of
from train_once import WARM_STEPS, prepare, restart_times, train_once

from orchestrator.launch.cluster import local_shape
from orchestrator.plan.make import plan_train
from orchestrator.plan.values import TrainPlan
from orchestrator.record.folder import Root
from orchestrator.spec.job import JobSpec
from orchestrator.spec.load import load_job
from orchestrator.spec.train import TrainSpec
from orchestrator.testing import write_image_folder
from orchestrator.training.precision import choose_precision

BAR = 1.05
"""Step time against the plain loop."""
SAVE_BAR = 1.03
FIRST_STEP_BAR_S, RESTART_BAR_S = 15.0, 8.0
RESTART_CHECKPOINT_S, RESTART_EPOCHS = 2.0, 200
BATCHES = {"resnet8": 256, "resnet18": 32}
STEPS = {"resnet8": 60, "resnet18": 30}
"""About as long for each network."""
SIZE = 32
CLASSES = tuple(f"class-{number}" for number in range(10))
NEVER_S = 1e6
PLAIN = Path(__file__).with_name("plain_ddp.py")
MEBI = 2**20
JOB = """\
name: {network}
data:
  source: {source}
  split: {{validation: 0.0, test: 0.0}}
  image: {{size: {size}, store: png}}
augment: [{{random_crop: {{padding: 4}}}}, horizontal_flip]
model: {{name: {network}}}
train:
  {{epochs: 1, batch: {batch}, workers: {workers}, precision: {precision}, channels_last: true, checkpoint_s: {checkpoint_s}}}
"""


@dataclass(frozen=True)
class Case:
    """One network, and what both loops are told."""

    job: Path
    root: Root
    spec: JobSpec
    plan: TrainPlan


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print the table, write `train.json`."""
    options = parse(arguments)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    rows: list[Row] = []
    options.folder.mkdir(parents=True, exist_ok=True)
    for network in options.networks:
        with TemporaryDirectory(prefix="root-", dir=options.folder) as name:
            case = make_case(network, Path(name).resolve(), options)
            prepare(case.job, case.root)
            say(f"{network}: {options.repeats} rounds of {', '.join(measures(case))}")
            rows += rows_of(network, case, interleave(options.repeats, measures(case)))
            if options.kills:
                say(f"{network}: {options.kills} kills of a worker in a training, {options.repeats} times")
                rows.append(restart_row(network, case, options))
    publish("train", rows, options.folder)


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = parser_of(__doc__, "the results")
    parser.add_argument("--networks", nargs="+", choices=BATCHES, default=list(BATCHES), help="what is trained, 32 x 32 pixels")
    parser.add_argument("--batch", type=int, help="images of a step, over all workers; default: by the network")
    parser.add_argument("--steps", type=int, help="of each training; default: by the network")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--kills", type=int, default=3, choices=range(4), help="of a worker in each of as many trainings as rounds")
    return parser.parse_args(arguments)


def make_case(network: str, place: Path, options: Namespace) -> Case:
    """A folder of as many images as the steps take, and a job on it."""
    batch, steps = options.batch or BATCHES[network], options.steps or STEPS[network]
    images = batch * steps
    source = write_image_folder(place / "images", classes=CLASSES, images_per_class=-(-images // len(CLASSES)), size=SIZE)
    job = place / "job.yaml"
    precision = choose_precision("auto", torch.device("cpu"))
    wanted = {"batch": batch, "workers": options.workers, "precision": precision, "checkpoint_s": NEVER_S}
    job.write_text(JOB.format(network=network, source=source, size=SIZE, **wanted))
    spec = load_job(job).job
    plan, _ = plan_train(spec, images, local_shape(), options.workers)
    return Case(job, Root(place / "root"), spec, plan)


def measures(case: Case) -> dict[str, Callable[[], Measure]]:
    """In the order of a round."""
    return {
        "memory": partial(ours, case, "synthetic"),
        "plain": partial(plain, case),
        "prepared": partial(ours, case, "prepared"),
    }


def ours(case: Case, feed: str) -> Measure:
    trained = train_once(case.job, case.root, feed=feed)
    assert (trained.workers, trained.threads) == (case.plan.workers, case.plan.threads)
    return Measure(
        trained.seconds,
        {
            "step_s": trained.step_s,
            "steps": trained.steps,
            "wait_share": trained.wait_share,
            "first_step_s": trained.first_step_s,
            "save_s": trained.save_s,
            "save_bytes": trained.save_bytes,
            "threads": trained.threads,
        },
    )


def plain(case: Case) -> Measure:
    """The same steps in the other loop; its first ones do not count either."""
    train, plan = case.spec.train, case.plan
    order = Order(
        source=case.spec.data.source,
        network=case.spec.model.label,
        micro_batch_rows=plan.micro_batch_rows,
        micro_batches=plan.micro_batches // plan.workers,
        steps=plan.steps_per_epoch,
        threads=plan.threads,
        half=train.precision == "bf16",
        channels_last=train.channels_last is True,
        lr=train.lr,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={plan.workers}"]
    environment = plain_environment() | {"OMP_NUM_THREADS": str(plan.threads)}
    began, started = time.time(), time.perf_counter()
    done = subprocess.run([*torchrun, str(PLAIN), order.to_json()], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{PLAIN.name} ended with {done.returncode}:\n{done.stderr}")
    seconds, answer = time.perf_counter() - started, json.loads(done.stdout.splitlines()[-1])
    assert answer["workers"] == plan.workers
    ends, steps = answer["ends"], plan.steps_per_epoch - WARM_STEPS
    step_s = (ends[-1] - ends[WARM_STEPS - 1]) / steps
    return Measure(seconds, {"step_s": step_s, "steps": steps, "first_step_s": ends[0] - began, "threads": answer["threads"]})


def rows_of(network: str, case: Case, rounds: Rounds) -> list[Row]:
    saves = [measured["prepared"].facts["save_s"] for measured in rounds]
    interval_s = TrainSpec().checkpoint_s
    save_facts = {
        "bar": SAVE_BAR,
        "save_s": median_fact(rounds, "prepared", "save_s"),
        "interval_s": interval_s,
        "mib": median_fact(rounds, "prepared", "save_bytes") / MEBI,
    }
    first_facts = {
        "bar_s": FIRST_STEP_BAR_S,
        "first_step_s": median_fact(rounds, "prepared", "first_step_s"),
        "slowest_s": max(measured["prepared"].facts["first_step_s"] for measured in rounds),
        "their_first_step_s": median_fact(rounds, "plain", "first_step_s"),
    }
    return [
        *(step_row(network, case, rounds, feed) for feed in ("memory", "prepared")),
        row_of(
            f"{network}: time with a checkpoint every {interval_s:g} s against none", [1 + save / interval_s for save in saves], save_facts
        ),
        row_of(
            f"{network}: time from the command to the first step against torchrun",
            fact_ratios(rounds, "first_step_s", "prepared", "plain"),
            first_facts,
        ),
    ]


def restart_row(network: str, case: Case, options: Namespace) -> Row:
    """From the death of a worker to the next step, against what it may take."""
    changes = (f"train.epochs={RESTART_EPOCHS}", f"train.checkpoint_s={RESTART_CHECKPOINT_S}")
    seconds = [second for _ in range(options.repeats) for second in restart_times(case.job, case.root, changes, options.kills)]
    facts = {"bar_s": RESTART_BAR_S, "restart_s": statistics.median(seconds), "slowest_s": max(seconds)}
    return row_of(
        f"{network}: time from the death of a worker to the next step, of {RESTART_BAR_S:g} s",
        [second / RESTART_BAR_S for second in seconds],
        facts,
    )


def step_row(network: str, case: Case, rounds: Rounds, feed: str) -> Row:
    facts = {
        "bar": BAR,
        "step_ms": 1000 * median_fact(rounds, feed, "step_s"),
        "their_step_ms": 1000 * median_fact(rounds, "plain", "step_s"),
        "wait_share": median_fact(rounds, feed, "wait_share"),
        "workers": case.plan.workers,
        "threads": median_fact(rounds, feed, "threads"),
        "their_threads": median_fact(rounds, "plain", "threads"),
        "batch": case.plan.micro_batches * case.plan.micro_batch_rows,
        "micro_batch": case.plan.micro_batch_rows,
        "half": float(case.spec.train.precision == "bf16"),
        "steps": median_fact(rounds, feed, "steps"),
        "their_steps": median_fact(rounds, "plain", "steps"),
    }
    source = {"memory": "from memory", "prepared": "on prepared images"}[feed]
    return row_of(f"{network}: step time {source} against plain DDP", fact_ratios(rounds, "step_s", feed, "plain"), facts)


if __name__ == "__main__":
    main()
