"""What happens to a micro-batch between its pixels and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.errors import TrainingError
from orchestrator.spec.section import AUTO
from orchestrator.training.chance import Place, generator, seed_torch
from orchestrator.training.distributed import all_reduce_max
from orchestrator.training.loss import count_hits, make_targets, training_loss
from orchestrator.training.mixing import draw_mix, mix_images
from orchestrator.training.precision import Precision, choose_precision
from orchestrator.training.work import TrainWork

PRECISIONS = ("fp32", "bf16", "fp16")
"""When the devices of the workers suit different ones, all take the last of them."""


class Recipe:
    """Mixing, precision and loss as the job asks for them, the same for all workers."""

    def __init__(self, work: TrainWork, device: torch.device) -> None:
        self._spec, self._device, self._own_network = work.job.train, device, bool(work.job.model.entry)
        (number,) = all_reduce_max([PRECISIONS.index(choose_precision(self._spec.precision, device))], device)
        self.precision = Precision(PRECISIONS[number], device)
        self._weights = None if work.class_weights is None else torch.tensor(work.class_weights, dtype=torch.float32, device=device)

    @property
    def channels_last(self) -> bool:
        asked = self._spec.channels_last
        return not self._own_network if asked == AUTO else asked

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Loss, and number of hits, of one micro-batch; both on the device.

        Args:
            model: As it trains.
            images: Normalised, (M, C, H, W).
            labels: (M,).
            place: Decides all that is random.
        """
        spec = self._spec
        mix = None
        if spec.mixes:
            mix = draw_mix(spec, generator(spec.seed, place, "mix"), (images.shape[0], images.shape[2], images.shape[3]))
        targets = make_targets(labels, mix)
        seed_torch(spec.seed, place, self._device)
        with self.precision.autocast():
            logits = self._logits(model, images if mix is None else mix_images(images, mix))
        loss = training_loss(logits, targets, self._weights, spec.label_smoothing)
        return loss, count_hits(logits.detach(), targets)

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Raises:
        TrainingError: torch.compile cannot compile this network, or finds no compiler on this machine.
        """
        if not self._spec.compile:
            return model(images)  # type: ignore[no-any-return]
        from torch._dynamo.exc import TorchDynamoException

        try:
            return model(images)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            line = str(error).strip().splitlines()[0]
            raise TrainingError(f"torch.compile failed: {line}", "train.compile=false trains without it") from error
