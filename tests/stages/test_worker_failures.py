"""Groups whose workers hang, fail or compute nonsense: what is tried again, what is not, and what the record says of it."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from workshop import Workshop

from orchestrator.errors import StorageError, TrainingError
from orchestrator.record.journal import read_events
from orchestrator.reports.fold import fold
from orchestrator.stages.failure import find_cause, first_line, is_loss, only_workers_are_gone
from orchestrator.stages.heartbeat import read_heartbeats
from orchestrator.training.checkpoint import CheckpointStore

Make = Callable[..., Workshop]
TWO_WORKERS = ("train.workers=2", "train.epochs=2", "model.norm=batch")
LONG = ("train.workers=2", "train.epochs=15", "train.checkpoint_s=0.001")


def faulty(fault: str, at: int, once: Path | str = "", rank: int = 1) -> str:
    kwargs = json.dumps({"fault": fault, "at": at, "rank": rank, "once": str(once)})
    return f"model={{entry: 'faulty_networks:build', kwargs: {kwargs}}}"


def named(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["event"] == name]


def starts(run: Path) -> list[int]:
    """The numbers of the starts of the group that trained."""
    return [event["attempt"] for event in named(run / "events", "AttemptStarted") if event["stage"] == "train"]


def send(workshop: Workshop, rank: int, sent: signal.Signals) -> bool:
    """Send a signal to a worker of the first attempt, once it has trained some steps."""
    beats = [beat for path in workshop.root.runs.glob("*/attempts/workers-1") for beat in read_heartbeats(path)]
    for beat in beats:
        if beat.rank == rank and (beat.epoch or beat.step > 2):
            os.kill(beat.pid, sent)
            return True
    return False


def only_run(workshop: Workshop) -> Path:
    (run,) = workshop.root.runs.iterdir()
    return run


@contextmanager
def meanwhile(act: Callable[[], bool]) -> Iterator[None]:
    """Try something again and again in another thread until it was done; Ctrl-C of a run wants the main thread."""
    ended = threading.Event()

    def try_it() -> None:
        while not ended.is_set() and not act():
            time.sleep(0.02)

    thread = threading.Thread(target=try_it)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def assert_went_on(run: Path, rank: int) -> dict[str, Any]:
    """One worker was hung, the second attempt went on where the first had saved, and finished."""
    (hung,) = named(run / "events", "WorkerHung")
    assert hung["rank"] == rank
    (failed,) = named(run / "events", "AttemptFailed")
    assert f"rank {rank}" in failed["error"]
    assert starts(run) == [1, 2]
    assert named(run / "events", "TrainingStarted")[1]["resumed_from_step"] > 0
    assert {path.name for path in (run / "attempts").glob("workers-1/*.stacks")} == {"rank-0.stacks", "rank-1.stacks"}
    return hung


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "alive"), [("sleeps", True), ("holds", False)])
def test_a_worker_that_never_comes_back_is_replaced(make_workshop: Make, ray_cluster: None, fault: str, alive: bool) -> None:
    """`sleep` for ever in the forward pass of rank 1, also without letting go of the interpreter: stacks, restart, and a whole run."""
    workshop = make_workshop()
    once = workshop.root.path.parent / "once"
    workshop.run(*TWO_WORKERS, faulty(fault, 6, once), "train.hang_s=5", "train.checkpoint_s=0.001", in_process=False, until="train")
    hung = assert_went_on(only_run(workshop), rank=1)
    assert hung["alive"] is alive
    assert hung["doing"] == "compute" or not alive  # what it last said of itself may be older
    assert "faulty_networks.py" in hung["at"]
    assert fault in hung["at"]
    assert hung["seconds"] >= 5
    assert fold(workshop.root.run(only_run(workshop).name)).training.hung_workers == 1


@pytest.mark.slow
def test_a_stopped_worker_is_replaced(make_workshop: Make, ray_cluster: None) -> None:
    """SIGSTOP of rank 0 in the middle of training: it cannot show its stacks, which is said instead, and the run becomes whole."""
    workshop = make_workshop()

    with meanwhile(lambda: send(workshop, 0, signal.SIGSTOP)):
        workshop.run(*LONG, "train.hang_s=5", in_process=False, until="train")
    hung = assert_went_on(only_run(workshop), rank=0)
    assert not hung["alive"]
    assert "T (stopped)" in (only_run(workshop) / "attempts" / hung["stacks"]).read_text()


@pytest.mark.slow
def test_a_killed_worker_is_replaced(make_workshop: Make, ray_cluster: None) -> None:
    """SIGKILL of rank 1 in the middle of training, upon which the exchange of rank 0 fails: a second attempt, and nobody was hung.

    Ray Train starts it, and the driver nothing anew: it keeps one record.
    """
    workshop = make_workshop()
    with meanwhile(lambda: send(workshop, 1, signal.SIGKILL)):
        workshop.run(*LONG, in_process=False, until="train")
    run = only_run(workshop)
    (failed,) = named(run / "events", "AttemptFailed")
    assert re.fullmatch(r"RayTrainWorker \(process \d+ on \S+\) was lost", failed["error"])
    assert named(run / "events", "TrainingStarted")[1]["resumed_from_step"] > 0
    assert named(run / "events", "WorkerHung") == []
    assert starts(run) == [1, 2]
    assert [path.name for path in (run / "attempts").glob("train-*")] == ["train-1"]


@pytest.mark.slow
def test_a_worker_that_is_lost_before_it_reads_is_replaced(make_workshop: Make, ray_cluster: None) -> None:
    """SIGKILL while rank 1 builds its network: the driver starts the group again, with new streams, and the run becomes whole."""
    workshop = make_workshop()
    once = workshop.root.path.parent / "once"
    workshop.run(*TWO_WORKERS, faulty("is_not_built", 0, once), in_process=False, until="train")
    run = only_run(workshop)
    assert starts(run) == [1, 2]
    assert {path.name for path in (run / "attempts").glob("train-*")} == {"train-1", "train-2"}
    assert len(named(run / "events", "TrainingFinished")) == 1


@pytest.mark.slow
def test_a_group_that_is_lost_again_and_again_is_given_up(make_workshop: Make, ray_cluster: None) -> None:
    """A worker that dies in its fourth step whenever it is started: four attempts, each in the record, and an error that says so."""
    workshop = make_workshop()
    with pytest.raises(TrainingError, match="the worker group was lost 4 times; last: ") as raised:
        workshop.run(*TWO_WORKERS, faulty("dies", 3), in_process=False, until="train")
    run = only_run(workshop)
    assert starts(run) == [1, 2, 3, 4]
    assert [event["attempt"] for event in named(run / "events", "AttemptFailed")] == [1, 2, 3, 4]
    assert str(run / "attempts") in raised.value.next_step


@pytest.mark.slow
def test_a_slow_run_is_left_alone(make_workshop: Make, ray_cluster: None) -> None:
    """Every step, the first one as well, takes longer than `hang_s`, and rank 0 waits for rank 1: no alarm, one attempt."""
    workshop = make_workshop()
    workshop.run(*TWO_WORKERS, faulty("slows", -1), "train.hang_s=3", "train.epochs=1", in_process=False, until="train")
    events = only_run(workshop) / "events"
    assert named(events, "WorkerHung") == []
    assert starts(only_run(workshop)) == [1]


@pytest.mark.parametrize(("fault", "error"), [("raises", "RuntimeError: "), ("exits", "SystemExit: 3")])
def test_what_the_users_code_raises_is_final(make_workshop: Make, ray_cluster: None, fault: str, error: str) -> None:
    """One attempt; the error has the line of the user's file, although torch raised it, and the step. So it is with `sys.exit`."""
    workshop = make_workshop()
    with pytest.raises(TrainingError, match=rf"train failed in step 4 of epoch 1: {error}.*faulty_networks\.py:\d+\)") as raised:
        workshop.run(*TWO_WORKERS, faulty(fault, 3), in_process=False, until="train")
    assert raised.value.exit_code == 1
    assert starts(only_run(workshop)) == [1]


def test_a_worker_that_runs_out_of_memory_is_final(make_workshop: Make, in_process: bool) -> None:
    """One attempt; the error says how much was used, and which micro-batch keeps the steps as they are."""
    workshop = make_workshop()
    network = faulty("grows", 3, rank=0)
    with pytest.raises(TrainingError, match=r"out of memory in step 4 of epoch 1: the worker took up to .* are free") as raised:
        workshop.run("model.norm=batch", network, in_process=in_process, until="train")
    assert raised.value.next_step == "train.micro_batch=8 instead of 16 takes less at a time and keeps the batch of 16"
    assert starts(only_run(workshop)) == [1]


def test_validation_that_runs_out_of_memory_is_told_apart(make_workshop: Make, in_process: bool) -> None:
    """Smaller micro-batches would not help: the error names the validation, and the number that decides there."""
    workshop = make_workshop()
    with pytest.raises(TrainingError, match=r"out of memory in the validation of epoch 1: the worker took up to ") as raised:
        workshop.run("evaluate.batch=6", faulty("grows_in_validation", -1, rank=0), in_process=in_process, until="train")
    assert raised.value.next_step == "evaluate.batch=3 instead of 6 takes fewer images at a time"


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group that grants 64 MiB; what it is made of stands where both versions of them are."""
    version_1 = Path("/sys/fs/cgroup/memory")
    top, limit = (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = top / f"starving-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(2**26))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"this process may not limit the memory of another one: {error}")
    yield group
    group.rmdir()


@pytest.mark.slow
def test_a_worker_that_the_kernel_ends_for_its_memory_is_told_as_such(
    make_workshop: Make, ray_cluster: None, small_group: Path, tmp_path: Path
) -> None:
    """It looks like any lost process, and is replaced like one; the record says that the kernel wanted its memory."""
    workshop = make_workshop()
    (tmp_path / "group").write_text(str(small_group))
    network = faulty("starves", 3, tmp_path / "once")
    workshop.run(*TWO_WORKERS, network, "train.checkpoint_s=0.001", in_process=False, until="train")
    (failed,) = named(only_run(workshop) / "events", "AttemptFailed")
    said = r"RayTrainWorker \(process \d+ on .*\) was lost; the kernel of .+ ended 1 process for want of memory"
    assert re.fullmatch(said, failed["error"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_loss_that_is_no_number_on_one_rank(make_workshop: Make, ray_cluster: None, policy: str) -> None:
    """stop: one attempt, and the checkpoint from before is finite; skip: the run becomes whole, and its report counts the step."""
    workshop = make_workshop()
    job = (*TWO_WORKERS, faulty("breaks", 6), f"train.on_nonfinite={policy}", "train.checkpoint_s=0.001")
    if policy == "stop":
        with pytest.raises(TrainingError, match="the loss is not finite on rank 1 after step 3 of epoch 2"):
            workshop.run(*job, in_process=False, until="train")
        assert starts(only_run(workshop)) == [1]
    else:
        report = workshop.run(*job, in_process=False).report
        assert report.training.skipped_steps == 1
        assert json.loads((only_run(workshop) / "report.json").read_bytes())["training"]["skipped_steps"] == 1
    checkpoint = CheckpointStore(only_run(workshop) / "checkpoints").newest()
    assert checkpoint is not None
    assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.state["model"].values())


MONITOR = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (ID: 95) was 27.74GB used / 28.80GB limit (0.963)
OOM kill reason: Memory usage 29785598197B exceeded threshold of 29377455882B (95.0% of 30923764531B limit)
Ray killed 1 worker(s) based on the killing policy
Selected to kill: (Task: job ID=01000000, task name=RayTrainWorker.poll_status, pid=19003, actual memory used=20.04GB, worker ID=fd)
"""


def test_of_several_errors_the_one_that_explains_the_others_is_told() -> None:
    """A worker that Ray ended for its memory, then an error of ours, then a process that was lost, and only then who missed it."""
    lost, ours, ended = ActorDiedError(), StorageError("the shard is damaged"), OutOfMemoryError(MONITOR)
    assert find_cause([RuntimeError("[/gloo/pair.cc] gone"), lost], "") is lost
    assert find_cause([lost, ours], "") is ours
    memory = find_cause([lost, ended], "take less")
    assert isinstance(memory, TrainingError)
    assert memory.message.endswith("27.74GB of 28.80GB were in use, 20.04GB by the worker")
    assert memory.next_step == "take less"


def test_a_process_that_is_gone_is_known_to_be_a_worker_or_not() -> None:
    """Of a worker Ray Train's look after its health says so; of what divides the feed the workers do."""
    gone, reset = ActorDiedError(), ConnectionResetError()
    assert only_workers_are_gone([WorkerHealthCheckFailedError("", gone), UserExceptionWithTraceback(reset, "")])
    assert not only_workers_are_gone([UserExceptionWithTraceback(gone, ""), UserExceptionWithTraceback(reset, "")])


def test_a_process_that_is_gone_is_named() -> None:
    """Of what Ray writes of an actor: its kind, its process and its machine, and whether that is gone as well."""
    context = ActorDiedErrorContext(class_name="RayTrainWorker", pid=7, node_ip_address="10.0.0.5", actor_id=bytes(16))
    context.error_message = "The actor is dead because its worker process has died."
    assert first_line(ActorDiedError(context)) == "RayTrainWorker (process 7 on 10.0.0.5) was lost"
    context.error_message = "The actor died because its node has died. Node Id: 95"
    assert first_line(ActorDiedError(context)) == "RayTrainWorker (process 7 on 10.0.0.5) was lost with its node"
    assert first_line(ActorDiedError()) == "The actor died unexpectedly before finishing this task."


def test_a_loss_is_told_from_a_fault() -> None:
    """Errors of an exchange whose peer is gone are tried again, those of a program are not."""
    assert is_loss(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4"))
    assert is_loss(ConnectionResetError())
    assert not is_loss(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_loss(KeyError("label"))
