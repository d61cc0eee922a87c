"""nnU-Net's trainer, counted in iterations: it can be stopped and resumed, and is deterministic on a CPU.

nnU-Net counts epochs of 250 iterations, saves between epochs, and draws batches from free-running random generators. A
resumed training is therefore another one than an uninterrupted one. Here, everything that a step depends on is either
in the checkpoint (weights, optimizer, losses since the last validation) or a function of the iteration's number (batch,
learning rate). On a CPU, a training that is stopped and resumed gives the weights of one that was not, bit by bit.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule

from bidsapp.config import Settings
from bidsapp.errors import BadDataError, UsageError
from bidsapp.layout import ModelLayout
from bidsapp.logs import prints_to_log
from bidsapp.machine import available_memory_bytes
from bidsapp.model_dir.nnunet_files import RESTORE, read_dataset, read_plans
from bidsapp.model_dir.state import ModelState, Segment
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.training.augmentation import training_transforms, validation_transforms
from bidsapp.training.batches import (
    PREFETCHED,
    SHARE_OF_MEMORY,
    Batch,
    Batches,
    PreprocessedCases,
    iterate,
)
from bidsapp.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from bidsapp.training.marginal import marginalise
from bidsapp.training.schedule import learning_rate

log = logging.getLogger(__name__)

HEADS = "decoder.seg_layers."
FROZEN = {
    "none": lambda name: False,
    "encoder": lambda name: name.startswith("encoder."),
    "all-but-head": lambda name: not name.startswith(HEADS),
}
"""`finetuning.freeze` -> whether a parameter keeps its value."""
GRADIENT_NORM_LIMIT = 12  # as in nnU-Net
CPU_BF16 = "HIPPOTUNE_CPU_BF16"
"""Environment variable: 1 or 0 says whether the processor computes bf16, whatever its flags say."""
WORTH_COMPILING = 1000  # iterations; torch.compile takes about a minute
MOST_WORKERS = 12  # nnU-Net's own default for its augmentation


@dataclass(frozen=True)
class Validation:
    """One line of the training's history."""

    iteration: int
    """Iterations done so far, over all segments."""
    training_loss: float
    """Mean over the iterations since the validation before."""
    validation_loss: float
    dice: dict[str, float]
    """Label name -> Dice over all voxels of the validation patches with corrected, drawn or imported labels; empty
    where there are none."""
    learning_rate: float
    consistency: dict[str, float] = field(default_factory=dict)
    """The same of the patches whose labels were approved as predicted: it says how far the network strays from what
    another one drew, not how good it is."""

    @property
    def mean_dice(self) -> float:
        """Mean over labels; NaN without any."""
        return _mean(self.dice)

    @property
    def mean_consistency(self) -> float:
        """Mean over labels; NaN without any."""
        return _mean(self.consistency)


@dataclass(frozen=True)
class ValidationPicture:
    """A slice of the first validation patch: image, label and prediction as arrays (rows, columns)."""

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class Watcher:
    """Functions that a training calls while it runs; `bidsapp.training.watch` gives them."""

    step: Callable[[int, Callable[[], float]], None]
    """Called after every iteration with its number and a function that reads the loss, which makes a GPU wait."""
    validated: Callable[[Validation, ValidationPicture], None]
    """Called after every validation."""
    parent_validated: Callable[[Mapping[str, float]], None]
    """Called with the Dice per label of the weights that the training began with, where these are a parent's."""
    stop_requested: Callable[[], bool]
    """Asked after every iteration and between validation batches."""


@dataclass(frozen=True)
class Hardware:
    """What the training may use."""

    device: torch.device
    cores: int
    """Processor cores, shared between the network (on a CPU) and the workers that prepare batches."""

    @property
    def workers(self) -> int:
        """Processes that prepare batches beside the training."""
        if self.device.type == "cpu":
            return 0 if self.cores == 1 else max(1, self.cores // 4)
        return max(1, min(MOST_WORKERS, self.cores - 1))

    @property
    def threads(self) -> int:
        """Threads of the network itself."""
        return max(1, self.cores - self.workers) if self.device.type == "cpu" else 1


@dataclass(frozen=True)
class TrainingInputs:
    """The cases of a training and what is known of them, as far as the steps depend on it."""

    training: tuple[str, ...]
    """Cases to train on."""
    validation: tuple[str, ...]
    """Cases to validate on."""
    from_model: bool = False
    """The training has a parent, whose weights are the checkpoint of iteration 0."""
    new_labels: bool = False
    """The parent lacks some labels, so the heads learn faster."""
    annotated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Case -> names of the labels that it annotates, of the cases that do not annotate all."""
    rehearsal: frozenset[str] = frozenset()
    """Cases of an earlier training; `finetuning.rehearsal_fraction` of the patches are theirs."""
    as_predicted: frozenset[str] = frozenset()
    """Cases whose labels no person corrected or drew. They are sampled less often (`training.predicted_weight`), and
    their validation Dice is kept apart as `Validation.consistency`."""


@dataclass
class _Progress:
    """What a checkpoint keeps beside weights and optimizer. The names of the fields are keys of the file."""

    iteration: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    source_dice: dict[str, float] = field(default_factory=dict)
    """Dice of the parent's weights, per label; empty without a parent."""


class HippoTuneTrainer(nnUNetTrainer):
    """nnU-Net's network, loss, sampling and hooks; our clock, augmentation, optimizers and checkpoints.

    The constructor's signature is nnU-Net's; call `prepare` before training.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device = device  # nnU-Net always takes the first GPU
        self.inference_allowed_mirroring_axes = None
        self.label_names = {value: name for name, value in dataset_json["labels"].items() if value}
        self._compile = False

    def prepare(
        self,
        layout: ModelLayout,
        settings: Settings,
        segments: list[Segment],
        hardware: Hardware,
        inputs: TrainingInputs,
    ) -> None:
        """Build network, optimizer and loss, and take up the newest checkpoint.

        Raises
        ------
        BadDataError
            When the checkpoints are damaged or gone.
        """
        self.layout, self.settings, self.segments, self.hardware = layout, settings, segments, hardware
        self.inputs = inputs
        self.progress = _Progress()
        self._batches: dict[str, Batches] = {}
        self._precision = _training_dtype(settings.training.precision, self.device)
        if self._precision != torch.float16:
            self.grad_scaler = None
        if self.device.type == "cpu":
            torch.set_num_threads(hardware.threads)
            _keep_freed_memory()
        checkpoint = load_checkpoint(layout)
        done = checkpoint["iteration"] if checkpoint else 0
        if checkpoint is None and (segments[-1].start > 0 or inputs.from_model):
            raise BadDataError(f"{layout.checkpoint} is gone", "Restore it, or train anew in another --model-dir.")
        self._compile = segments[-1].target - done >= WORTH_COMPILING and shutil.which("cc") is not None
        torch.manual_seed(settings.training.seed)
        with prints_to_log():
            self.initialize()
        if checkpoint is not None:
            self._restore(checkpoint)

    def _do_i_compile(self) -> bool:
        return self._compile and super()._do_i_compile()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        """A fresh optimizer; its learning rate is set at every iteration."""
        chosen = self.settings.optimizer
        parameters, rate, decay = self._parameter_groups(), chosen.learning_rate, chosen.weight_decay
        optimizer: torch.optim.Optimizer
        if chosen.name == "sgd":
            optimizer = torch.optim.SGD(
                parameters, rate, momentum=chosen.momentum, weight_decay=decay, nesterov=chosen.momentum > 0
            )
        else:
            kind = torch.optim.Adam if chosen.name == "adam" else torch.optim.AdamW
            optimizer = kind(parameters, rate, weight_decay=decay)
        return optimizer, None

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, the heads apart; `factor` is on the learning rate of the first segment."""
        frozen = FROZEN[self.settings.finetuning.freeze if self.inputs.from_model else "none"]
        body: list[torch.nn.Parameter] = []
        heads: list[torch.nn.Parameter] = []
        for name, parameter in self._plain_network.named_parameters():
            parameter.requires_grad_(not frozen(name))
            if parameter.requires_grad:
                (heads if name.startswith(HEADS) else body).append(parameter)
        factor = self.settings.finetuning.new_head_factor if self.inputs.new_labels else 1.0
        groups = [{"params": body, "factor": 1.0}, {"params": heads, "factor": factor}]
        return [group for group in groups if group["params"]]

    @property
    def _optimizer_kind(self) -> str:
        """Describes what must be unchanged for the optimizer's state in a checkpoint to be loaded."""
        freeze = self.settings.finetuning.freeze if self.inputs.from_model else "none"
        return self.settings.optimizer.name + ("" if freeze == "none" else f", frozen: {freeze}")

    @property
    def _plain_network(self) -> torch.nn.Module:
        """The network itself, compiled or not."""
        return self.network._orig_mod if isinstance(self.network, OptimizedModule) else self.network

    def _build_loss(self) -> torch.nn.Module:
        with np.errstate(invalid="ignore"):
            loss = super()._build_loss()
        if len(loss.weight_factors) == 1:  # of two stages: nnU-Net leaves out the coarsest output, here the only one
            loss.weight_factors = (1.0,)
        if self.settings.loss.name == "dice":
            loss.loss.weight_ce = 0
        return loss

    def run_training(self, watcher: Watcher) -> None:
        """Train until the last segment's target, or until `watcher` asks to stop; save a checkpoint then.

        `progress.iteration` says how far it came.
        """
        target = self.segments[-1].target
        stop_requested = watcher.stop_requested
        self._make_batches(stop_requested)
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        if self.inputs.from_model and not self.progress.source_dice and self.progress.iteration == 0:
            found = self._validate(stop_requested, training_loss=float("nan"), rate=0.0)
            if found is None:
                return
            self.progress.source_dice = found[0].dice
        if self.progress.source_dice:
            watcher.parent_validated(self.progress.source_dice)
        # Stopped in the middle of the last validation: the losses since the one before are still in the checkpoint. It
        # is done first, so that the history is that of a training that nobody stopped.
        if self.validation_is_due:
            self._record(self.progress.loss_sum, self._learning_rate(self.progress.iteration - 1), watcher)
            if self.validation_is_due:
                return
            self.progress.loss_sum = 0.0
            self.save()
        self.network.train()
        # Losses are summed on the device: reading one after every step would make a GPU wait.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device) + self.progress.loss_sum
        with closing(self._training_batches(target, stop_requested)) as batches:
            for batch in batches:
                iteration = self.progress.iteration
                rate = self._set_learning_rate(iteration)
                loss = self.train_step(batch)["loss"]
                loss_sum += loss
                self.progress.loss_count += 1
                self.progress.iteration = iteration = iteration + 1
                watcher.step(iteration, loss.item)
                if self._validates_at(iteration):
                    self._record(float(loss_sum), rate, watcher)
                    if not self.validation_is_due:
                        loss_sum.zero_()
                if stop_requested():
                    break
                if iteration == target or iteration % self.settings.training.checkpoint_interval == 0:
                    self._save_progress(loss_sum)
        if stop_requested():
            self._save_progress(loss_sum)

    def _training_batches(self, target: int, stop_requested: Callable[[], bool]) -> Generator[Batch, None, None]:
        return iterate(
            self._batches["training"],
            self.progress.iteration,
            target,
            workers=self._affordable_workers(),
            pin_memory=self.device.type == "cuda",
            stop_requested=stop_requested,
        )

    def _validates_at(self, iteration: int) -> bool:
        return iteration % self.settings.training.validation_interval == 0 or iteration == self.segments[-1].target

    @property
    def validation_is_due(self) -> bool:
        """Whether the validation of this iteration is still to be done; its losses are kept until then."""
        return self._validates_at(self.progress.iteration) and self.progress.loss_count > 0

    def _save_progress(self, loss_sum: torch.Tensor) -> None:
        self.progress.loss_sum = float(loss_sum)
        self._refuse_divergence(self.progress.loss_sum)
        self.save()

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step. The loss stays on the device: reading it makes a GPU wait."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = [scale.to(self.device, non_blocking=True) for scale in batch["target"]]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self._known_to(batch, self._forward(data)), target)
        if self.grad_scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_LIMIT)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_LIMIT)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return {"loss": loss.detach()}

    def _forward(self, data: torch.Tensor) -> list[torch.Tensor]:
        """Logits per deep-supervision scale, in float32: Dice sums lose their digits in 16 bits."""
        with self._autocast():
            outputs = self.network(data)
        return [output.float() for output in outputs]

    def _known_to(self, batch: Batch, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Outputs in which labels that a case does not annotate count as background, as they do in its label map."""
        partly = self.inputs.annotated
        if not any(str(case) in partly for case in batch["keys"]):
            return outputs
        names = [self.label_names[value] for value in sorted(self.label_names)]
        rows = [[True, *(name in partly.get(str(case), names) for name in names)] for case in batch["keys"]]
        annotated = torch.tensor(rows, device=outputs[0].device)
        return [marginalise(output, annotated) for output in outputs]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._precision)

    def _segment_of(self, iteration: int) -> Segment:
        return next(segment for segment in self.segments if segment.start <= iteration < segment.target)

    def _learning_rate(self, iteration: int) -> float:
        segment = self._segment_of(iteration)
        return learning_rate(
            iteration,
            start=segment.start,
            target=segment.target,
            settings=self.settings.optimizer,
            finetuning=self.settings.finetuning if self.inputs.from_model else None,
        )

    def _set_learning_rate(self, iteration: int) -> float:
        segment, rate = self._segment_of(iteration), self._learning_rate(iteration)
        # A new segment has a warm-up and a peak of its own, and momenta of the last decayed steps would fight it. The
        # first segment began with a fresh optimizer.
        if iteration == segment.start and self.progress.iteration > 0:
            self.optimizer, _ = self.configure_optimizers()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (group["factor"] if segment.start == 0 else 1)
        return rate

    def _record(self, loss_sum: float, rate: float, watcher: Watcher) -> None:
        self._refuse_divergence(loss_sum)
        mean_loss = loss_sum / self.progress.loss_count
        found = self._validate(watcher.stop_requested, training_loss=mean_loss, rate=rate)
        if found is None:
            return
        validation, picture = found
        self.progress.loss_count = 0
        self.progress.history.append(asdict(validation))
        watcher.validated(validation, picture)

    def _refuse_divergence(self, loss_sum: float) -> None:
        if not np.isfinite(loss_sum):
            raise BadDataError(
                f"the training diverged: the loss is {loss_sum} before iteration {self.progress.iteration}",
                "Lower optimizer.learning_rate, or set training.precision = fp32; the last checkpoint is kept.",
            )

    @torch.no_grad()
    def _validate(
        self, stop_requested: Callable[[], bool], *, training_loss: float, rate: float
    ) -> tuple[Validation, ValidationPicture] | None:
        """Score the fixed validation batches, with labels approved as predicted kept apart; None: a stop was requested.

        Counts of voxels are pooled over all patches before Dice is computed, as nnU-Net does: patches without a label
        would make a mean of Dice values meaningless.
        """
        self.network.eval()
        losses, counts, pictures = [], [], []
        cases: list[str] = []
        for number in range(self.settings.training.validation_batches):
            if stop_requested():
                self.network.train()
                return None
            batch = self._batches["validation"][number]
            target = [scale.to(self.device) for scale in batch["target"]]
            outputs = self._known_to(batch, self._forward(batch["data"].to(self.device)))
            losses.append(float(self.loss(outputs, target)))
            prediction = outputs[0].argmax(1, keepdim=True)
            one_hot = torch.zeros_like(outputs[0]).scatter_(1, prediction, 1)
            tp, fp, fn, _ = get_tp_fp_fn_tn(one_hot, target[0], axes=list(range(2, one_hot.ndim)))
            counts.append(torch.stack([tp, fp, fn], dim=1).double().cpu().numpy())
            cases += map(str, batch["keys"])
            if number == 0:
                pictures.append(_middle_slice(batch["data"], target[0], prediction))
        self.network.train()
        of_patches = np.concatenate(counts)  # patches, (tp, fp, fn), classes
        as_predicted = np.array([case in self.inputs.as_predicted for case in cases])
        dice, consistency = (self._pooled_dice(of_patches[chosen]) for chosen in (~as_predicted, as_predicted))
        validation = Validation(self.progress.iteration, training_loss, float(np.mean(losses)), dice, rate, consistency)
        return validation, pictures[0]

    def _pooled_dice(self, counts: np.ndarray) -> dict[str, float]:
        """Label name -> Dice over the voxels of all patches; `counts` is (patches, (tp, fp, fn), classes)."""
        if not len(counts):
            return {}
        tp, fp, fn = counts.sum(axis=0)[:, 1:]
        dice = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        return {self.label_names[value]: float(dice[index]) for index, value in enumerate(sorted(self.label_names))}

    def save(self) -> None:
        """Write a checkpoint from which `prepare` goes on exactly here."""
        save_checkpoint(
            self.layout,
            {
                **asdict(self.progress),
                "network_weights": self._plain_network.state_dict(),
                "optimizer": self._optimizer_kind,
                "optimizer_state": self.optimizer.state_dict(),
                "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler else None,
                "trainer_name": type(self).__name__,
                "init_args": {"configuration": self.configuration_name},
                "inference_allowed_mirroring_axes": None,
            },
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint, whose types are checked already; raises `BadDataError` when it does not fit."""
        try:
            self._take_up(checkpoint)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadDataError(
                f"the checkpoint in {self.layout.fold} does not fit the model: {reason}", RESTORE
            ) from error

    def _take_up(self, checkpoint: Checkpoint) -> None:
        self._plain_network.load_state_dict(checkpoint["network_weights"])
        self.progress = _Progress(**{key: checkpoint[key] for key in asdict(_Progress()) if key in checkpoint})
        for point in self.progress.history:  # a damaged entry must fail here and not in the report after the training
            f"{Validation(**point).mean_dice:.3f}"
        # The optimizer's state is taken up only within a segment (see `_set_learning_rate`), and only where the same
        # optimizer learns the same parameters: another one would misread it.
        same_kind = checkpoint["optimizer"] == self._optimizer_kind
        if same_kind and all(segment.start != self.progress.iteration for segment in self.segments):
            chosen = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(checkpoint["optimizer_state"])
            for group, now in zip(self.optimizer.param_groups, chosen, strict=True):
                group.update(now)  # an edited weight decay or momentum counts from here on
        if self.grad_scaler and checkpoint["grad_scaler_state"]:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])

    def _make_batches(self, stop_requested: Callable[[], bool]) -> None:
        patch_size = self.configuration_manager.patch_size
        augmentation = self.settings.augmentation
        scales = self._get_deep_supervision_scales()
        angle = tuple(np.deg2rad(augmentation.rotation_degrees)) if augmentation.rotation_probability else (0.0, 0.0)
        zoom = augmentation.scaling_factor if augmentation.scaling_probability else (1.0, 1.0)
        patch_before_rotation = get_patch_size(patch_size, angle, angle, angle, zoom)
        transforms = {
            "training": training_transforms(
                tuple(patch_size),
                spacing_mm=min(self.configuration_manager.spacing),
                deep_supervision_scales=scales,
                settings=augmentation,
            ),
            "validation": validation_transforms(scales),
        }
        limit = SHARE_OF_MEMORY * available_memory_bytes()
        for stream, cases, crop in (
            ("training", self.inputs.training, patch_before_rotation),
            ("validation", self.inputs.validation, patch_size),
        ):
            loader = nnUNetDataLoader(
                PreprocessedCases(
                    self.layout,
                    list(cases),
                    limit_bytes=limit / 2,
                    channels=self.num_input_channels,
                    largest_label=max(self.label_names),
                    stop_requested=stop_requested,
                ),
                self.batch_size,
                crop,
                patch_size,
                self.label_manager,
                oversample_foreground_percent=self.oversample_foreground_percent,
                sampling_probabilities=self._shares(cases) if stream == "training" else None,
                transforms=transforms[stream],
            )
            self._batches[stream] = Batches(loader, seed=self.settings.training.seed, stream=stream)  # type: ignore[arg-type]

    def _shares(self, cases: Sequence[str]) -> np.ndarray | None:
        """How often each case is drawn; None: all alike."""
        return case_shares(
            cases,
            self.inputs,
            rehearsal_fraction=self.settings.finetuning.rehearsal_fraction,
            predicted_weight=self.settings.training.predicted_weight,
        )

    def _affordable_workers(self) -> int:
        """Workers whose batches fit into shared memory (containers often have 64 MB of it)."""
        workers, batch = self.hardware.workers, self._bytes_of_batch()
        room = max(0.0, _shared_memory_bytes() - 2 * batch)  # kept for the batch being trained on and the next
        affordable = int(min(workers, room // (PREFETCHED * batch)))
        if affordable < workers:
            log.warning(
                "/dev/shm has room for %d of %d workers, of %.0f MB each; --shm-size or --ipc=host gives more",
                affordable, workers, PREFETCHED * batch / 1e6,
            )  # fmt: skip
        return affordable

    def _bytes_of_batch(self) -> int:
        """Images in float32, and labels in int16 at every scale."""
        patch = np.array(self.configuration_manager.patch_size)
        scales = self._get_deep_supervision_scales() or [[1.0, 1.0, 1.0]]
        labels = sum(int(np.prod(np.round(patch * scale))) for scale in scales)
        return self.batch_size * int(4 * self.num_input_channels * np.prod(patch) + 2 * labels)


def case_shares(
    cases: Sequence[str], inputs: TrainingInputs, *, rehearsal_fraction: float, predicted_weight: float
) -> np.ndarray | None:
    """How often each of `cases`, sorted, is drawn: shares that sum to 1; None: all alike.

    Raises
    ------
    UsageError
        When a weight of 0 leaves nothing to train on.
    """
    ordered = sorted(cases)
    earlier = np.array([case in inputs.rehearsal for case in ordered])
    weights = np.where([case in inputs.as_predicted for case in ordered], predicted_weight, 1.0)
    if not weights.any():
        raise UsageError(
            "every label to train on was approved as predicted, and training.predicted_weight = 0 leaves them out",
            "Correct some sides of training people, or raise it.",
        )
    parts = [part for part in (earlier, ~earlier) if weights[part].any()]
    if len(parts) == 1:
        return None if np.ptp(weights) == 0 else weights / weights.sum()
    for part, share in zip(parts, (rehearsal_fraction, 1 - rehearsal_fraction), strict=True):
        weights[part] *= share / weights[part].sum()
    return weights


def inputs_of(state: ModelState) -> TrainingInputs:
    """The cases and facts in a model's state that its training depends on."""
    annotated = {case: frozenset(one.annotated) for case, one in state.cases.items() if one.annotated is not None}
    rehearsal = frozenset(case for case, one in state.cases.items() if one.rehearsal)
    training, validation = (
        tuple(case for case, one in state.cases.items() if one.split == part) for part in ("train", "validation")
    )
    as_predicted = frozenset(case for case, one in state.cases.items() if not one.origin.is_reference)
    return TrainingInputs(
        training, validation, state.from_model, bool(state.new_labels), annotated, rehearsal, as_predicted
    )


def make_trainer(
    layout: ModelLayout, settings: Settings, segments: list[Segment], hardware: Hardware, inputs: TrainingInputs
) -> HippoTuneTrainer:
    """The trainer of a planned and preprocessed model, at its newest checkpoint."""
    plans = read_plans(layout) | {"continue_training": layout.checkpoint.exists()}
    dataset_json = read_dataset(layout)
    with prints_to_log():
        trainer = HippoTuneTrainer(plans, NNUNET_CONFIGURATION, 0, dataset_json, hardware.device)
    trainer.prepare(layout, settings, segments, hardware, inputs)
    return trainer


def _training_dtype(precision: str, device: torch.device) -> torch.dtype:
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in named:
        return named[precision]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_computes_bf16() else torch.float32


def _cpu_computes_bf16() -> bool:
    """True where bf16 is computed by the processor and not emulated, which would be slower than float32.

    Raises
    ------
    UsageError
        When the environment variable that overrides it is neither 0 nor 1.
    """
    chosen = os.environ.get(CPU_BF16)
    if chosen is not None:
        if chosen not in ("0", "1"):
            raise UsageError(f"{CPU_BF16}={chosen}", "It may be 0 or 1; unset it to go by the processor's flags.")
        return chosen == "1"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            flags = next((line for line in stream if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees: 1.5 million page faults per step of nnU-Net's default plan otherwise."""
    if sys.platform == "linux":
        m_trim_threshold, m_mmap_max = -1, -4
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)


def _shared_memory_bytes() -> float:
    """Free bytes where workers put their batches."""
    if sys.platform != "linux":
        return float("inf")
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 0.0


def _mean(of_labels: Mapping[str, float]) -> float:
    return float(np.mean(list(of_labels.values()))) if of_labels else float("nan")


def _middle_slice(data: torch.Tensor, target: torch.Tensor, prediction: torch.Tensor) -> ValidationPicture:
    """The slice of the batch with most label, along nnU-Net's middle axis (coronal for x, y, z images)."""
    per_slice = (target > 0).sum(dim=(1, 2, 4)).cpu()  # batch, y
    sample, row = divmod(int(per_slice.argmax()), per_slice.shape[1])
    image, label, predicted = (
        array[sample, 0, :, row].float().cpu().numpy()[::-1] for array in (data, target, prediction)
    )
    return ValidationPicture(image, label, predicted)
