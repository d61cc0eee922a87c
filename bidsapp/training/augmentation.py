"""What a training patch goes through: nnU-Net's, elastic deformation, bias field, cut fields; no mirroring."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from bidsapp.config import AugmentationSettings

BIAS_FIELD_ORDER = 3


class BiasFieldTransform(ImageOnlyTransform):
    """Shade each channel by exp of a random polynomial of order 3, as receive coils do.

    The image is shifted to positive values first (patches are z-scored) and shifted back after, so dark
    stays dark. As in NiftyNet's random bias field, coefficients are uniform; the field averages 1.
    """

    def __init__(self, strength: tuple[float, float]) -> None:
        super().__init__()
        self.strength = strength

    def get_parameters(self, **data_dict: torch.Tensor) -> dict[str, torch.Tensor]:
        """Draw one field (x, y, z in nnU-Net's axis order) for all channels."""
        shape = data_dict["image"].shape[1:]
        limit = np.random.uniform(*self.strength)
        axes = [torch.linspace(-1, 1, edge) for edge in shape]
        powers = [torch.stack([axis**power for power in range(BIAS_FIELD_ORDER + 1)]) for axis in axes]
        coefficients = torch.zeros([BIAS_FIELD_ORDER + 1] * len(shape))
        for exponents in itertools.product(range(BIAS_FIELD_ORDER + 1), repeat=len(shape)):
            if 0 < sum(exponents) <= BIAS_FIELD_ORDER:
                coefficients[exponents] = np.random.uniform(-limit, limit)
        field = coefficients
        for power in powers:  # each contraction moves the next axis' exponents to the front
            field = torch.tensordot(field, power, dims=([0], [0]))
        field = torch.exp(field)
        return {"field": field / field.mean()}

    def _apply_to_image(self, image: torch.Tensor, **parameters: torch.Tensor) -> torch.Tensor:
        darkest = image.amin(dim=tuple(range(1, image.ndim)), keepdim=True)
        return (image - darkest) * parameters["field"] + darkest


class FieldOfViewTransform(BasicTransform):
    """Cut off one side of a patch, as where the scan ends; nothing is labelled there.

    What lies beyond is, by the toss of a coin, the darkest value of the patch (a crop is 0 outside the scan) or noise
    with the patch's mean and standard deviation.

    Parameters
    ----------
    cut
        Smallest and largest part of the edge that goes.
    """

    def __init__(self, cut: tuple[float, float]) -> None:
        super().__init__()
        self.cut = cut

    def get_parameters(self, **data_dict: torch.Tensor) -> dict[str, object]:
        """Draw the side, how much goes, and what takes its place."""
        shape = data_dict["image"].shape[1:]
        axis = np.random.randint(len(shape))
        gone = int(np.random.uniform(*self.cut) * shape[axis])
        first = 0 if np.random.uniform() < 0.5 else shape[axis] - gone
        beyond = (slice(None), *[slice(None)] * axis, slice(first, first + gone))
        return {"beyond": beyond, "noisy": np.random.uniform() < 0.5}

    def _apply_to_image(self, image: torch.Tensor, **parameters: Any) -> torch.Tensor:
        beyond, axes = parameters["beyond"], tuple(range(1, image.ndim))
        image = image.clone()
        if parameters["noisy"]:
            deviation, mean = torch.std_mean(image, dim=axes, keepdim=True)
            image[beyond] = mean + deviation * torch.randn(image[beyond].shape)
        else:
            image[beyond] = image.amin(dim=axes, keepdim=True)
        return image

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **parameters: Any) -> torch.Tensor:
        segmentation = segmentation.clone()
        segmentation[parameters["beyond"]] = 0
        return segmentation


def training_transforms(
    patch_size: tuple[int, ...],
    *,
    spacing_mm: float,
    deep_supervision_scales: list[list[float]] | None,
    settings: AugmentationSettings,
) -> BasicTransform:
    """The chain for training patches; images (channels, z, y, x) float32, segmentation (1, z, y, x) int16.

    Parameters
    ----------
    patch_size
        Voxels of the patch that comes out; what goes in is larger where rotation asks for it.
    spacing_mm
        Smallest voxel edge of the network's grid.
    """
    transforms = [
        SpatialTransform(
            patch_size,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=settings.elastic_probability,
            elastic_deform_scale=settings.elastic_smoothness,
            elastic_deform_magnitude=tuple(limit / spacing_mm for limit in settings.elastic_magnitude_mm),
            p_rotation=settings.rotation_probability,
            rotation=tuple(np.deg2rad(settings.rotation_degrees)),
            p_scaling=settings.scaling_probability,
            scaling=settings.scaling_factor,
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=-1,
        ),
        _sometimes(settings.field_of_view_probability, FieldOfViewTransform(settings.field_of_view_cut)),
        _sometimes(
            settings.noise_probability,
            GaussianNoiseTransform(noise_variance=settings.noise_variance, p_per_channel=1, synchronize_channels=True),
        ),
        _sometimes(
            settings.blur_probability,
            # its benchmark option would choose the algorithm by the clock, and two runs would differ
            GaussianBlurTransform(blur_sigma=settings.blur_sigma_voxels, p_per_channel=0.5, benchmark=False),
        ),
        _sometimes(
            settings.brightness_probability,
            MultiplicativeBrightnessTransform(
                multiplier_range=BGContrast(settings.brightness_factor), synchronize_channels=False, p_per_channel=1
            ),
        ),
        _sometimes(
            settings.contrast_probability,
            ContrastTransform(
                contrast_range=BGContrast(settings.contrast_factor),
                preserve_range=True,
                synchronize_channels=False,
                p_per_channel=1,
            ),
        ),
        _sometimes(settings.bias_field_probability, BiasFieldTransform(settings.bias_field_strength)),
        _sometimes(
            settings.low_resolution_probability,
            SimulateLowResolutionTransform(
                scale=settings.low_resolution_zoom,
                synchronize_channels=False,
                synchronize_axes=True,
                ignore_axes=None,
                allowed_channels=None,
                p_per_channel=0.5,
            ),
        ),
        _sometimes(settings.inverted_gamma_probability, _gamma(settings, inverted=True)),
        _sometimes(settings.gamma_probability, _gamma(settings, inverted=False)),
        *_label_transforms(deep_supervision_scales),
    ]
    return ComposeTransforms([transform for transform in transforms if transform is not None])


def validation_transforms(deep_supervision_scales: list[list[float]] | None) -> BasicTransform:
    """The chain for validation patches: labels only."""
    return ComposeTransforms(_label_transforms(deep_supervision_scales))


def _label_transforms(deep_supervision_scales: list[list[float]] | None) -> list[BasicTransform]:
    transforms = [RemoveLabelTansform(-1, 0)]
    if deep_supervision_scales is not None:
        transforms.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
    return transforms


def _sometimes(probability: float, transform: BasicTransform) -> BasicTransform | None:
    return RandomTransform(transform, apply_probability=probability) if probability else None


def _gamma(settings: AugmentationSettings, *, inverted: bool) -> GammaTransform:
    return GammaTransform(
        gamma=BGContrast(settings.gamma),
        p_invert_image=float(inverted),
        synchronize_channels=False,
        p_per_channel=1,
        p_retain_stats=1,
    )
