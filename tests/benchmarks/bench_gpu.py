"""How well GPUs are fed: training and evaluation on prepared images against the same from memory, and CIFAR-10 from start to end.

Run it with `make bench-gpu` on a machine with one or more GPUs, or where the packages are installed already and there is no network with
`PYTHONPATH=.:tests python tests/benchmarks/bench_gpu.py`. `--parts` divides it where time is short.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pictures import CLASSES, write_pictures
from predict_once import Subject, images_per_s, subject_of
from start import parser_of, say
from table import Measure, Rounds, Row, interleave, median_fact, publish, row_of, speed_ratios
from train_once import Trained, prepare, run_once, train_once

from orchestrator.launch.cluster import TOKEN, local_shape, start_engine
from orchestrator.record.folder import Root
from orchestrator.spec.model import ModelSpec
from orchestrator.stages.engine import Engine
from orchestrator.stages.environment import set_environment
from orchestrator.training.cost import model_facts

BARS = {"large": 0.95, "evaluation": 0.95, "roofline": 0.45}
"""For the small network, whose images are raw, the cores of the machine decide."""
STORES = {"large": "jpeg", "small": "raw"}
PARTS = (*STORES, "cifar")
CROSSINGS = 9
"""Times that a number which is kept for the backward pass is read or written, at least: by convolution, normalisation, which takes two
passes, and ReLU, each a kernel of its own, forward and backward; two numbers are kept for each output of a convolution."""
HALF = 0.5
"""Of the bytes in single precision."""
COPIES = 50
COPIED_BYTES = {"cuda": 2**31, "cpu": 2**26}
GIGA, MEGA = 1e9, 1e6
JOB = """\
name: {network}
data:
  source: {source}
  split: {{validation: 0.0, test: 0.0}}
  image: {{size: {size}, store_size: {store_size}, store: {store}}}
augment: [random_resized_crop, horizontal_flip]
model: {{name: {network}}}
train: {{epochs: {epochs}, batch: {batch}, checkpoint_s: 1.0e6}}
evaluate: {{batch: {batch}}}
"""
CIFAR_JOB = """\
name: cifar10
data: {{source: {source}, split: {{validation: 0.0}}, image: {{size: 32, store: raw}}}}
augment: [{{random_crop: {{padding: 4}}}}, horizontal_flip]
model: {{name: {network}}}
train: {{epochs: {epochs}, batch: 512, lr: 0.4, schedule: one_cycle, label_smoothing: 0.1}}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print the table, write `gpu.json`."""
    options = parse(arguments)
    set_environment(TOKEN)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for part in options.parts:
        with temporary_root(options.folder) as root:
            rows += cifar_rows(root, options) if part == "cifar" else network_rows(part, root, options)
    publish("gpu", rows, options.folder)
    sys.stdout.write("\n" + "\n".join(notes(options.epochs)) + "\n")


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = parser_of(__doc__, "the pictures and the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured")
    parser.add_argument("--large", default="resnet50", help="trained and evaluated from JPEGs")
    parser.add_argument("--small", default="resnet18", help="trained from raw pixels")
    parser.add_argument("--images", type=int, default=50_000, help="of an epoch")
    parser.add_argument("--size", type=int, default=224, help="side of what is trained on; a seventh more is stored")
    parser.add_argument("--batch", type=int, default=256, help="images of a step, over all GPUs")
    parser.add_argument("--epochs", type=int, default=5, help="of each training; see `timed` for those that count")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--cifar", default="images/cifar10", help="CIFAR-10, from `orchestrator fetch cifar10` or in another form")
    parser.add_argument("--cifar-epochs", type=int, default=10)
    parser.add_argument("--toy", action="store_true", help="on the CPU where there is no GPU, to see it run")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.toy:
        parser.error("torch finds no GPU; --toy runs on the CPU")
    if "cifar" in options.parts and not Path(options.cifar).exists():
        parser.error(f"there is no {options.cifar}: orchestrator fetch cifar10, or --cifar PATH, or --parts without cifar")
    return options


@contextmanager
def temporary_root(folder: Path) -> Iterator[Root]:
    with TemporaryDirectory(prefix="root-", dir=folder) as name:
        yield Root(Path(name).resolve())


def network_rows(part: str, root: Root, options: Namespace) -> list[Row]:
    """Training on prepared images against training from memory; of the large network the roofline and evaluation as well."""
    network, job = getattr(options, part), root.path / "job.yaml"
    sizes = {"size": options.size, "store_size": options.size * 8 // 7, "store": STORES[part]}
    source = write_pictures(options.folder / "data", options.images).resolve()
    job.write_text(JOB.format(network=network, source=source, batch=options.batch, epochs=options.epochs, **sizes))
    say(f"{network}: preparing {options.images:,} images, then {options.repeats} rounds from memory and on prepared images")
    prepare(job, root)
    done: list[Trained] = []
    trainings = {feed: partial(train, job, root, feed, options, done) for feed in ("synthetic", "prepared")}
    with start_engine(local_shape(), in_process=False) as engine:
        rounds = interleave(options.repeats, trainings)
        against = "training on prepared images against from memory"
        rows = [speed_row(f"{network}, {options.size}, {STORES[part]}: {against}", rounds, BARS.get(part))]
        if part == "large":
            rows += [
                roofline_row(f"{network}, {options.size}", rounds, network, options),
                evaluation_row(f"{network}, {options.size}", subject_of(done[-1].folder, root), options, engine),
            ]
    return rows


def train(job: Path, root: Root, feed: str, options: Namespace, done: list[Trained]) -> Measure:
    """What came of it is appended to `done`."""
    trained = train_once(job, root, feed=feed, epochs=timed(options.epochs), here=True)
    assert options.toy or trained.device.startswith("cuda"), f"trained on {trained.device}"
    done.append(trained)
    say(f"from {feed}: {options.batch / trained.step_s:,.0f} images/s, {trained.seconds:.0f} s in all")
    facts = {"images_per_s": options.batch / trained.step_s, "wait_share": trained.wait_share, "workers": trained.workers}
    return Measure(trained.step_s, facts | {"save_s": trained.save_s})


def timed(epochs: int) -> range:
    """Not the first epoch, in which all warms up, nor the last ones, whose images may have been read before: Ray Data reads ahead until
    half of its share of the object store is full, which at 224 pixels on a machine of 128 GiB takes some 70,000 of them.
    """
    return range(min(1, epochs - 1), max(1, epochs // 2 + 1))


def speed_row(name: str, rounds: Rounds, bar: float | None) -> Row:
    """How much of the speed from memory is left with real images."""
    ratios = speed_ratios(rounds, "prepared", "synthetic")
    facts = {fact: median_fact(rounds, "prepared", fact) for fact in ("images_per_s", "wait_share", "workers")}
    facts["memory_images_per_s"] = median_fact(rounds, "synthetic", "images_per_s")
    return row_of(name, ratios, ({} if bar is None else {"bar": bar}) | facts)


def roofline_row(name: str, rounds: Rounds, network: str, options: Namespace) -> Row:
    """How much of what the memory of the GPUs would allow if nothing else took time."""
    facts = model_facts(ModelSpec(name=network), None, num_classes=CLASSES, in_channels=3, image_size=options.size)
    image_bytes, bandwidth = CROSSINGS * HALF * facts.image_bytes, bandwidth_bytes_per_s()
    workers = median_fact(rounds, "synthetic", "workers")
    ceiling = workers * bandwidth / image_bytes
    speeds = [measured["synthetic"].facts["images_per_s"] for measured in rounds]
    shown = {
        "bar": BARS["roofline"],
        "images_per_s": median_fact(rounds, "synthetic", "images_per_s"),
        "roofline_images_per_s": ceiling,
        "bandwidth_gb_per_s": bandwidth / GIGA,
        "image_mb": image_bytes / MEGA,
    }
    return row_of(f"{name}: training from memory against the roofline of memory bandwidth", [speed / ceiling for speed in speeds], shown)


def bandwidth_bytes_per_s() -> float:
    """Of one GPU, read and written by copying; in a toy run that of a CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = torch.empty(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    wait_for(device)
    started = time.perf_counter()
    for _ in range(COPIES):
        target.copy_(source)
    wait_for(device)
    return 2 * COPIES * source.nbytes / (time.perf_counter() - started)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def evaluation_row(name: str, subject: Subject, options: Namespace, engine: Engine) -> Row:
    """The speed of an evaluation pass with real images against the same from memory; each is a worker group of its own."""
    say(f"{name}: {options.repeats} rounds of evaluation")

    def evaluate(*, repeated: bool) -> Measure:
        speed = images_per_s(subject, engine, repeated=repeated, folder=options.folder)
        say(f"evaluation, {'from memory' if repeated else 'prepared'}: {speed:,.0f} images/s")
        return Measure(1 / speed, {"images_per_s": speed})

    rounds = interleave(options.repeats, {"synthetic": partial(evaluate, repeated=True), "prepared": partial(evaluate, repeated=False)})
    facts = {
        "bar": BARS["evaluation"],
        "images_per_s": median_fact(rounds, "prepared", "images_per_s"),
        "memory_images_per_s": median_fact(rounds, "synthetic", "images_per_s"),
    }
    return row_of(f"{name}: evaluation of prepared images against from memory", speed_ratios(rounds, "prepared", "synthetic"), facts)


def cifar_rows(root: Root, options: Namespace) -> list[Row]:
    """Ten epochs, from images that are not prepared yet to the accuracy on the test images, once."""
    job = root.path / "job.yaml"
    job.write_text(CIFAR_JOB.format(source=Path(options.cifar).resolve(), network=options.small, epochs=options.cifar_epochs))
    say(f"CIFAR-10: {options.cifar_epochs} epochs of {options.small}")
    evaluated = run_once(job, root)
    facts = {"seconds": evaluated.seconds, **{f"{stage}_s": seconds for stage, seconds in evaluated.stages.items()}}
    return [row_of(f"CIFAR-10, {options.cifar_epochs} epochs of {options.small}: test accuracy", [evaluated.accuracy], facts)]


def notes(epochs: int) -> list[str]:
    """What the table does not say itself."""
    counted = timed(epochs)
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    crossings = f"{CROSSINGS} reads or writes, in half precision, of each number that is kept for the backward pass"
    return [
        f"- Devices: {', '.join(devices) or 'none, a toy run on the CPU'}; torch {torch.__version__}.",
        "- From memory: each worker repeats one batch, which takes the same way to the GPU as every batch.",
        f"- Steps are timed in the middle of epochs {counted[0] + 1} to {counted[-1] + 1} of {epochs}.",
        "- A worker group of its own for each number, one Ray for each network.",
        "- Evaluation computes in single precision, and is timed from asking for the first batch on.",
        f"- Roofline: {crossings}, against the bandwidth of copying, measured here.",
        "- CIFAR-10: everything from the command to its end, start of Ray and preparing included.",
    ]


if __name__ == "__main__":
    main()
