"""nnU-Net's fingerprint, plans and preprocessing, in this process, for a data set that grows.

Plans are made once in a model's life: planning again would change the network under its weights.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bidsapp.config import TrainingSettings
from bidsapp.errors import BadDataError, InterruptedRunError, UsageError
from bidsapp.files import explain_write_errors, read_json, write_json
from bidsapp.images.volumes import VolumeError, read_volume
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.logs import prints_to_log
from bidsapp.model_dir.nnunet_files import RESTORE, read_dataset, read_plans
from bidsapp.nnunet_names import NNUNET_CONFIGURATION
from bidsapp.training.preprocessed import forget_cases, is_whole, write_case, write_marker

log = logging.getLogger(__name__)

CASES_PER_PROCESS = 32  # a spawned process costs about 5 s and 0.6 GB before its first case
MIN_FEATURE_MAP_EDGE = 4  # voxels at the bottleneck, as in nnU-Net's planner
_FEWEST_STAGES = 2


def extract_fingerprint(layout: ModelLayout) -> None:
    """Write nnU-Net's dataset fingerprint of the training and validation cases.

    The same numbers as `nnunetv2.experiment_planning...DatasetFingerprintExtractor.run`, which always starts
    a pool of processes; its own `analyze_case` does the work here.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    extractor = DatasetFingerprintExtractor(DATASET, num_processes=1)
    samples = int(extractor.num_foreground_voxels_for_intensitystats // len(extractor.dataset))
    cases = [
        extractor.analyze_case(files["images"], files["label"], SimpleITKIO, samples)
        for files in extractor.dataset.values()
    ]
    channels = range(len(cases[0][2]))
    write_json(
        layout.fingerprint,
        {
            "spacings": [list(map(float, spacing)) for _, spacing, *_ in cases],
            "shapes_after_crop": [list(map(int, shape)) for shape, *_ in cases],
            "foreground_intensity_properties_per_channel": {
                str(channel): _intensity_properties(np.concatenate([case[2][channel] for case in cases]))
                for channel in channels
            },
            "median_relative_size_after_cropping": float(np.median([case[4] for case in cases])),
        },
    )


def _intensity_properties(intensities: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(intensities, (0.5, 50.0, 99.5))
    return {
        "mean": float(np.mean(intensities)),
        "median": float(median),
        "std": float(np.std(intensities)),
        "min": float(np.min(intensities)),
        "max": float(np.max(intensities)),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }


def make_plans(layout: ModelLayout, settings: TrainingSettings) -> dict[str, Any]:
    """Let nnU-Net plan ``3d_fullres`` and put the settings' own choices in; writes and returns the plans.

    Raises
    ------
    UsageError
        When patch size and number of stages do not go together, or leave one stage.
    """
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    class Planner(ExperimentPlanner):
        def determine_fullres_target_spacing(self) -> np.ndarray:
            return np.maximum(super().determine_fullres_target_spacing(), settings.min_spacing_mm)

    spacing = list(map(float, settings.spacing_mm[::-1])) if settings.spacing_mm else None
    with prints_to_log(), explain_write_errors(layout.plans):
        planner = Planner(DATASET, overwrite_target_spacing=spacing)
        planner.plan_experiment()
    plans = read_json(layout.plans)
    configuration = plans["configurations"][NNUNET_CONFIGURATION]
    plans["configurations"] = {NNUNET_CONFIGURATION: configuration}
    configuration["batch_size"] = settings.batch_size or configuration["batch_size"]
    if settings.patch_size or settings.features:
        _set_network(configuration, plans["transpose_forward"], settings)
    if configuration["architecture"]["arch_kwargs"]["n_stages"] < _FEWEST_STAGES:
        patch = " x ".join(map(str, configuration["patch_size"]))
        raise UsageError(
            f"the network would have one stage, with a patch of {patch} voxels: a U-Net has two at least",
            "Give training.features two numbers or more, and training.patch_size an edge of 8 or more.",
        )
    write_json(layout.plans, plans)
    return plans


def _set_network(configuration: dict[str, Any], transpose_forward: list[int], settings: TrainingSettings) -> None:
    """Replace patch size and features of a configuration, with the poolings and kernels that nnU-Net derives."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    patch = list(configuration["patch_size"])
    if settings.patch_size:
        zyx = settings.patch_size[::-1]  # nnU-Net's arrays are z, y, x, then transposed
        patch = [zyx[axis] for axis in transpose_forward]
    most_poolings = len(settings.features) - 1 if settings.features else 999
    _, strides, kernels, patch_size, _ = get_pool_and_conv_props(
        configuration["spacing"], patch, MIN_FEATURE_MAP_EDGE, most_poolings
    )
    stages = len(strides)
    arch = configuration["architecture"]["arch_kwargs"]
    widest = max(arch["features_per_stage"])
    features = settings.features or [min(widest, 32 * 2**stage) for stage in range(stages)]
    if len(features) != stages:
        raise UsageError(
            f"training.features = {' '.join(map(str, features))} asks for {len(features)} stages, but a patch of "
            f"{' x '.join(map(str, patch))} voxels allows {stages}",
            "Choose a larger training.patch_size or fewer features.",
        )
    configuration["patch_size"] = [int(edge) for edge in patch_size]
    arch.update(
        n_stages=stages,
        features_per_stage=list(features),
        strides=[list(stride) for stride in strides],
        kernel_sizes=[list(kernel) for kernel in kernels],
        n_conv_per_stage=[2] * stages,
        n_conv_per_stage_decoder=[2] * (stages - 1),
    )


def preprocess_cases(layout: ModelLayout, content: dict[str, str], *, processes: int) -> None:
    """Preprocess the cases whose content is new or changed, and remove what is no longer wanted.

    Parameters
    ----------
    content
        Training and validation case -> hash of its image and label.
    processes
        At most so many processes; one is used where starting more would cost more than it saves.
    """
    layout.preprocessed_cases.mkdir(parents=True, exist_ok=True)
    layout.preprocessed_hashes.mkdir(parents=True, exist_ok=True)
    whole = {case for case, digest in content.items() if is_whole(layout, case, digest)}
    forget_cases(layout, whole)
    wanted = [case for case in content if case not in whole]
    processes = min(processes, max(1, len(wanted) // CASES_PER_PROCESS))
    log.info("preprocessing %d of %d cases with %d process(es)", len(wanted), len(content), processes)
    jobs = [(layout, case, content[case]) for case in wanted]
    if processes == 1:
        for job in jobs:
            _preprocess_case(*job)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            list(pool.map(_preprocess_case, *zip(*jobs, strict=True)))
        except BrokenProcessPool as error:
            raise InterruptedRunError(
                "a process that preprocesses cases was ended from outside; perhaps there was too little memory",
                "Give the same command again, perhaps with a smaller --nprocs: what is done is kept.",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what was begun is ended, nothing more is begun
            raise


def _preprocess_case(layout: ModelLayout, case: str, digest: str) -> None:
    """Preprocess one case; its marker comes last, so a killed run does the case again."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_plans(layout))
    configuration = plans.get_configuration(NNUNET_CONFIGURATION)
    dataset = read_dataset(layout)
    channels = layout.raw_case("Tr", case, len(dataset["channel_names"]))
    label = layout.raw_labels("Tr") / f"{case}.nii.gz"
    for path in (*channels, label):
        _check_raw(path)
    data, segmentation, properties = configuration.preprocessor_class(verbose=False).run_case(
        [str(path) for path in channels], str(label), plans, configuration, dataset
    )
    write_case(layout, case, data, segmentation, properties)
    write_marker(layout, case, digest)


def _check_raw(path: Path) -> None:
    """Name a damaged file as ours are named: nnU-Net's readers would end with an error of their library."""
    try:
        read_volume(path, "pair")
    except VolumeError as error:  # which does not travel between processes
        raise BadDataError(error.message, error.hint or RESTORE) from None
