"""What training a network takes of the memory of a worker: pure arithmetic."""

from __future__ import annotations

from orchestrator.plan.values import Decision, ModelFacts, TrainPlan
from orchestrator.spec.job import JobSpec
from orchestrator.spec.section import AUTO
from orchestrator.units import format_bytes

VALUE_BYTES = 4
"""float32."""
MOMENTS = {"adamw": 2, "sgd": 1}
"""Values that an optimiser keeps for every trained parameter."""
TRAINING_PASSES = 3
"""A backward pass costs about two forward passes."""
GIGA = 1e9


def memory_parts(job: JobSpec, facts: ModelFacts, plan: TrainPlan) -> dict[str, int]:
    """Bytes by purpose. What torch itself takes, and what single operations take for a moment, is not in it.

    With half precision activations take half as much, which some layers exceed: normalisation and the loss stay in float32.
    """
    optimizer = job.train.optimizer
    moments = 0 if optimizer == "sgd" and not job.train.momentum else MOMENTS[optimizer]
    return {
        "weights": facts.state_bytes,
        "gradients": VALUE_BYTES * facts.trained,
        optimizer: VALUE_BYTES * moments * facts.trained,
        **({"average": facts.state_bytes} if job.train.ema else {}),
        f"activations of {plan.micro_batch_rows} images": facts.image_bytes * plan.micro_batch_rows // (2 if is_half(job, plan) else 1),
    }


def is_half(job: JobSpec, plan: TrainPlan) -> bool:
    """Whether forward passes surely compute with numbers of two bytes; which CPU a worker meets, no plan knows."""
    asked = job.train.precision
    return plan.device == "cuda" if asked == AUTO else asked != "fp32"


def plan_model(job: JobSpec, facts: ModelFacts | None, plan: TrainPlan) -> tuple[Decision, ...]:
    """What `orchestrator plan` says about the network."""
    spec, size = job.model, job.data.image.size
    if facts is None:
        reason = "a function of yours, which only the workers import" if spec.entry else "counted when there is something to train"
        return (Decision("network", spec.label, reason),)
    parts = memory_parts(job, facts, plan)
    whole = facts.trained == facts.parameters
    share = "all" if whole else f"{facts.trained:,}"
    passes = f"; about {TRAINING_PASSES * facts.image_flops / GIGA:,.3g} in training" if whole else ""
    memory = " + ".join(f"{name} {format_bytes(amount)}" for name, amount in parts.items() if amount)
    numbers = "activations in half precision, the rest in float32" if is_half(job, plan) else "in float32"
    lines = [
        Decision("network", f"{spec.label}, {facts.parameters:,} parameters", f"model.name; {share} of them are trained"),
        Decision(
            "compute", f"{facts.image_flops / GIGA:,.3g} GFLOPs an image", f"forward, of {size} pixels, a multiply-add is two{passes}"
        ),
        Decision("memory", f"at least {format_bytes(sum(parts.values()))} a worker", f"{memory}; {numbers}, without torch itself"),
    ]
    if spec.weights:
        found = (
            f"sha256 {facts.weights_sha256[:12]}; {facts.new_head or 'every layer is in it'}" if facts.weights_sha256 else "used already"
        )
        lines.append(Decision("start", spec.weights, f"model.weights; {found}"))
    return tuple(lines)
