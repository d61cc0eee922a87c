"""The one predictor: for first passes, for test people and for new people alike.

It gives what `nnUNetv2_predict` gives, voxel for voxel, in one process and with the model loaded once: nnU-Net's own
preprocessor, sliding window and export run here, without the processes and files that its command line puts between.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bidsapp.errors import BadDataError, UsageError
from bidsapp.exchange.loading import LoadedModel
from bidsapp.files import replace_atomically
from bidsapp.logs import prints_to_log
from bidsapp.machine import usable_cores
from bidsapp.nnunet_names import TURNS_TO_RAS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def choose_device(text: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` -> a device that exists.

    Raises
    ------
    UsageError
        When it does not.
    """
    import torch

    if text == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UsageError(f"--device {text} is not known", "Write auto, cpu, cuda or cuda:N.")
    if kind == "cpu":
        return torch.device("cpu")
    available = torch.cuda.device_count()
    if int(index or 0) >= available:
        raise UsageError(f"--device {text}: torch sees {available} GPU(s)", "Use --device cpu, or look at nvidia-smi.")
    return torch.device("cuda", int(index or 0))


class Predictor:
    """A loaded model that segments images in network space.

    Parameters
    ----------
    tta
        Average over the mirrored axes that the model was trained with, if any (test-time augmentation).
    cores
        Threads of the network on a CPU; None: what the process may use.

    Raises
    ------
    BadDataError
        When the weights do not fit the network of the plans.
    """

    def __init__(
        self, model: LoadedModel, device: torch.device, *, tta: bool = False, cores: int | None = None
    ) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        self.labels = model.labels
        self.digest = model.digest
        self._dataset_json = model.dataset_json
        self._threads = cores or usable_cores()
        self._plans = PlansManager(model.plans)
        self._configuration = self._plans.get_configuration(model.configuration)
        self._label_manager = self._plans.get_label_manager(model.dataset_json)
        self.channels = determine_num_input_channels(self._plans, self._configuration, model.dataset_json)
        self._preprocessor = self._configuration.preprocessor_class(verbose=False)
        self._reversed_x = model.reader == TURNS_TO_RAS
        with prints_to_log():
            network = nnUNetTrainer.build_network_architecture(
                self._plans,
                self._configuration,
                self.channels,
                self._label_manager.num_segmentation_heads,
                enable_deep_supervision=False,
            )
            self._predictor = nnUNetPredictor(use_mirroring=tta, device=device, allow_tqdm=False)
            self._load(network, model.weights[0])
            self._predictor.manual_initialization(
                network.to(device),
                self._plans,
                self._configuration,
                list(model.weights),  # of all folds: nnU-Net averages their logits
                model.dataset_json,
                nnUNetTrainer.__name__,
                model.mirroring_axes,
            )

    @staticmethod
    def _load(network: torch.nn.Module, weights: dict[str, Any]) -> None:
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise BadDataError(
                f"the weights do not fit the network of plans.json: {error}",
                "The model's files do not belong together.",
            ) from error

    def predict_files(self, images: Sequence[Path], output: Path) -> None:
        """Segment one case (a file per channel) and write the label map on the same grid, atomically."""
        reader = self._plans.image_reader_writer_class()
        data, properties = reader.read_images([str(path) for path in images])
        labels = self._predict(data, properties)
        replace_atomically(output, lambda temporary: reader.write_seg(labels, str(temporary), properties))

    def predict_array(self, images: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Segment images (channels, x, y, z) with voxels of `spacing_mm` (x, y, z).

        Network space: x runs from lateral to medial on both sides (LAS in the right hemisphere), as in the files of
        crops. A network whose reader turns voxels to RAS saw x the other way round in training: its images are
        reversed along x, and its labels are reversed back.

        Returns
        -------
        np.ndarray
            Label values (x, y, z).
        """
        properties = {"spacing": [float(edge) for edge in spacing_mm[::-1]]}
        x = slice(None, None, -1) if self._reversed_x else slice(None)
        return self._predict(images[:, x].transpose(0, 3, 2, 1), properties).transpose(2, 1, 0)[x]

    def _predict(self, data: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        """Images (channels, z, y, x) with nnU-Net's properties -> label values (z, y, x)."""
        import torch
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)  # of the whole process, so it is set back
        try:
            with prints_to_log(), torch.no_grad():
                prepared, _, properties = self._preprocessor.run_case_npy(
                    data, None, properties, self._plans, self._configuration, self._dataset_json
                )
                logits = self._predictor.predict_logits_from_preprocessed_data(torch.from_numpy(prepared)).cpu()
                return convert_predicted_logits_to_segmentation_with_correct_shape(
                    logits,
                    self._plans,
                    self._configuration,
                    self._label_manager,
                    properties,
                    num_threads_torch=self._threads,
                )
        finally:
            torch.set_num_threads(threads)
