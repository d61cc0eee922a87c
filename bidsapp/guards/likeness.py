"""Do the pairs of one folder lie as each other, and as the template? Orientation, place and exchanged values.

A pair is brought to the centre and size of its label on a coarse grid (`take_sample`), so that crops of 0.3 mm and
blocks of 1 mm can be laid over each other, and `compare` holds every pair against the others, which never include
itself, and against the template's hippocampus. Axes are those of network space: 0 from lateral to medial, 1 to the
front, 2 up. How often each fault is found is measured by `python -m benchmarks.pair_faults`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Any

import numpy as np
from scipy import fft, ndimage, optimize, sparse

from bidsapp.arrays import BoolArray, FloatArray, IntArray
from bidsapp.corobl.grid import SPACING_MM
from bidsapp.corobl.template import load_hippocampus

GRID_MM = 2.0
EDGE = 32
"""Samples are cubes, so that every orientation of one lies on the same voxels; 64 mm hold a hippocampus."""

TYPICAL_MM3 = 2800.0
"""Labels are scaled to this volume before their shapes are compared."""

LEAST_PAIRS = 5
"""A consensus of fewer pairs says nothing about one of them."""

LEAST_MM3 = 100.0
"""Labels below are specks whose shape says nothing."""

PITCHES_DEGREES = (-45, -30, -15, 0, 15, 30, 45)
"""Around axis 0: people, and the planes that blocks are cut in, differ by so much without any fault."""

_FOLDS = 8
_ROUNDS = 2
_PLAUSIBLE = 0.62
"""Cosine of two shapes from which on they are of one kind; 200 real hippocampi reach .71 to .90 with the template."""
_ELONGATED = 1.5
"""Ratio of the two longest axes from which on the long one gives a direction."""
_REACH_MM = 10.0
_WINDOW_MM = 4.0
_SEEN = 0.99
_NEARBY = 7
"""Edge, in voxels of the coarse grid, of the surroundings by which intensities are standardised."""
_LEAST_SEEN = 0.6
"""Share of the surroundings that must be within the image for it to be compared."""
_FFT_EDGE = 40
_ORDINALS = ("first", "second", "last")
MIRRORS = ("left and right", "front and back", "up and down")

Orientation = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Order of axes, and -1 for each one that is reversed afterwards."""


def _all_orientations() -> tuple[Orientation, ...]:
    order = [(p[0], p[1], p[2]) for p in permutations(range(3))]
    signs = [(s[0], s[1], s[2]) for s in product((1, -1), repeat=3)]
    return tuple((axes, sign) for axes in order for sign in signs)


ORIENTATIONS = _all_orientations()
"""All 48; the first changes nothing."""


MIRRORED: Orientation = ((0, 1, 2), (-1, 1, 1))
"""Left to right alone."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One pair on the coarse grid, (32, 32, 32) voxels of 2 mm around the centre of its label."""

    mask: IntArray
    """Share of each voxel that is labelled, 0 to 255; scaled to `TYPICAL_MM3`."""
    values: IntArray
    """The label value of each voxel of it, whatever its share."""
    image: FloatArray
    """Not scaled, the label's long axis turned into the nearest axis; each value less the mean around it and by the
    standard deviation there. NaN beyond the border of the image and where it is flat."""
    around: IntArray
    """The label in the place of `image`, 0 to 255."""


@dataclass(frozen=True)
class Likeness:
    """How one pair lies among the others."""

    orientation: Orientation
    """The one in which the label fits what it is compared with; the first of `ORIENTATIONS`: as it lies."""
    own: float = math.nan
    best: float = math.nan
    """Cosines of the label's shape, as it lies and in the best other orientation; NaN where nothing could be said."""
    image_orientation: Orientation | None = None
    """The one in which the image fits around the label; None where images say nothing."""
    image_fits: bool = False
    """Whether the image, as it lies under the label, looks like the others' there."""
    shift_mm: float = math.nan
    """How far the image would have to move to lie under its label as the others' do; NaN as above."""
    shift_gain: float = math.nan
    """Correlation with the others' images that this would gain; less, where even then the image is unlike them."""
    swapped: tuple[tuple[int, int], ...] = ()
    """(value, value in whose place it lies) of labels that lie in another's place."""
    swap_gain: float = 0.0
    """Mean cosine that exchanging them back would gain."""


@dataclass(frozen=True)
class Comparison:
    """All pairs of a folder."""

    pairs: tuple[Likeness | None, ...]
    """One each, in the given order; None where the label is a speck."""
    usual: Orientation | None
    """The orientation in which most labels fit the template; None where they are of another kind."""
    consensus: bool
    """Whether there were enough pairs to compare with each other."""
    template_own: float = math.nan
    template_usual: float = math.nan
    """Medians of the cosines of labels with the template: as they lie, and as `usual` turns them."""


def take_sample(labels: IntArray, image: FloatArray, spacing_mm: Sequence[float]) -> Sample | None:
    """Bring one pair to the coarse grid; None when its label is smaller than `LEAST_MM3`.

    Parameters
    ----------
    labels, image
        (i, j, k), axes of network space; what is not labelled is 0.
    """
    spacing = np.asarray(spacing_mm, dtype=float)
    volume_mm3 = float(np.count_nonzero(labels)) * float(spacing.prod())
    if volume_mm3 < LEAST_MM3:
        return None
    voxels = np.argwhere(labels)
    centre = voxels.mean(axis=0)
    scale = (volume_mm3 / TYPICAL_MM3) ** (1 / 3)
    upright = np.eye(3) * scale
    turned = _to_nearest_axis(np.cov(((voxels - centre) * spacing).T))
    box = _reach(labels.shape, centre, spacing)
    mask, inside = (labels[box] > 0).astype(np.float32), np.ones(labels[box].shape, np.float32)
    place = _Place(centre - [span.start for span in box], spacing)
    seen = place.sample(inside, turned)
    return Sample(
        mask=_as_bytes(place.sample(mask, upright)),
        values=place.nearest(labels[box], upright),
        image=_locally_standardised(place.sample(image[box].astype(np.float32), turned), seen > _SEEN),
        around=_as_bytes(place.sample(mask, turned)),
    )


def compare(samples: Sequence[Sample | None]) -> Comparison:
    """Hold every pair against the others and the template.

    With fewer than `LEAST_PAIRS` only the template speaks, and of orientation alone.
    """
    there = [index for index, sample in enumerate(samples) if sample is not None]
    given = [sample for sample in samples if sample is not None]
    found: list[Likeness | None] = [None] * len(samples)
    if not given:
        return Comparison(tuple(found), None, consensus=False)
    shapes = _Shapes(given)
    images = _compare_images(given, shapes) if shapes.consensus else {}
    for position, (index, sample) in enumerate(zip(there, given, strict=True)):
        orientation, own, best = shapes.verdict(position)
        swapped, gain = shapes.swapped(position, sample)
        place = images.get(position, _NO_IMAGE)
        found[index] = Likeness(orientation, own, best, *place, swapped, gain)
    own, usual = (float(np.median(shapes.template_scores[:, index])) for index in (0, shapes.usual_index))
    return Comparison(tuple(found), shapes.usual, shapes.consensus, own, usual)


def mirrored_gains(samples: Sequence[Sample]) -> tuple[float, ...]:
    """By how much each label fits the template better mirrored left to right, in cosine; NaN: it is of another kind."""
    if not samples:
        return ()
    scores, _ = _score(np.stack([sample.mask for sample in samples]), _template_mask())
    gains = scores[:, ORIENTATIONS.index(MIRRORED)] - scores[:, 0]
    return tuple(np.where(scores.max(axis=1) >= _PLAUSIBLE, gains, math.nan).tolist())


def relative(orientation: Orientation, usual: Orientation) -> Orientation:
    """What has to be done to an array that lies as `orientation` says, to lie as `usual` does."""
    (axes, signs), (usual_axes, usual_signs) = orientation, usual
    back = [0, 0, 0]
    reversed_back = [1, 1, 1]
    for axis in range(3):
        back[usual_axes[axis]] = axes[axis]
        reversed_back[usual_axes[axis]] = signs[axis] * usual_signs[axis]
    return (back[0], back[1], back[2]), (reversed_back[0], reversed_back[1], reversed_back[2])


def turn(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Exchange and reverse the axes of an array."""
    axes, (x, y, z) = orientation
    return array.transpose(axes)[::x, ::y, ::z]


def orientation_words(orientation: Orientation) -> str:
    """``left and right mirrored``; ``first and last axis exchanged, up and down mirrored``."""
    axes, signs = orientation
    moved = [axis for axis in range(3) if axes[axis] != axis]
    parts = [f"{_ORDINALS[moved[0]]} and {_ORDINALS[moved[-1]]} axis exchanged"] if len(moved) == 2 else []
    parts += ["all axes exchanged"] if len(moved) == 3 else []
    turns = [words for words, sign in zip(MIRRORS, signs, strict=True) if sign < 0]
    parts += [f"{', '.join(turns)} mirrored"] if turns else []
    return " and ".join(parts) or "as it lies"


class _Place:
    """Where the voxels of one pair lie, and how the coarse grid is filled from them."""

    def __init__(self, centre: FloatArray, spacing_mm: FloatArray) -> None:
        self.centre, self.spacing_mm = centre, spacing_mm
        self.factors = [max(1, int(GRID_MM / 2 / step)) for step in spacing_mm]
        thick_mm = spacing_mm * self.factors
        self.thick_centre, self.thick_mm = (centre + 0.5) / self.factors - 0.5, thick_mm
        self.width = [max(1, round(GRID_MM / step)) for step in thick_mm]

    def sample(self, array: FloatArray, matrix: FloatArray) -> FloatArray:
        """Means over the voxels of the coarse grid, which `matrix` (mm to mm) takes to the pair's."""
        thick = ndimage.uniform_filter(_mean_blocks(array, self.factors), self.width, mode="constant")
        shift = (np.array(self.width) % 2 == 0) / 2  # the middle of an even number of voxels lies between two
        return _resample(thick, matrix, self.thick_centre + shift, self.thick_mm, 1)

    def nearest(self, array: IntArray, matrix: FloatArray) -> IntArray:
        """The value of the nearest voxel."""
        return _resample(array, matrix, self.centre, self.spacing_mm, 0)


def _resample(array: np.ndarray, matrix: FloatArray, centre: FloatArray, spacing_mm: FloatArray, order: int) -> Any:
    steps = matrix * GRID_MM / spacing_mm[:, None]
    offset = centre - steps @ np.full(3, (EDGE - 1) / 2)
    return ndimage.affine_transform(array, steps, offset, (EDGE,) * 3, order=order, mode="constant", prefilter=False)


def _reach(shape: Sequence[int], centre: FloatArray, spacing_mm: FloatArray) -> tuple[slice, slice, slice]:
    """The part of an array that can reach into the coarse grid."""
    half = EDGE * GRID_MM
    low = np.maximum(np.floor(centre - half / spacing_mm), 0).astype(int)
    high = np.minimum(np.ceil(centre + half / spacing_mm) + 1, shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _mean_blocks(array: FloatArray, factors: Sequence[int]) -> FloatArray:
    """Mean over blocks of voxels; the last ones are filled up with the border's."""
    if max(factors) == 1:
        return array
    padded = np.pad(array, [(0, -length % by) for length, by in zip(array.shape, factors, strict=True)], mode="edge")
    x, y, z = (length // by for length, by in zip(padded.shape, factors, strict=True))
    i, j, k = factors
    return padded.reshape(x, i, y, j, z, k).mean(axis=(1, 3, 5))


def _as_bytes(shares: FloatArray) -> IntArray:
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _locally_standardised(image: FloatArray, seen: BoolArray) -> FloatArray:
    """Intensities less their mean nearby and by their standard deviation there: scanners and fields do not matter."""

    def nearby(array: FloatArray) -> FloatArray:
        return ndimage.uniform_filter(np.where(seen, array, 0).astype(np.float32), _NEARBY, mode="constant")

    weight = np.maximum(nearby(np.ones_like(image)), 1e-3)
    mean = nearby(image) / weight
    spread = np.sqrt(np.maximum(nearby((image - mean) ** 2) / weight, 0))
    flat = spread <= 1e-3 * max(float(spread.max()), 1e-6)
    return np.where(seen & ~flat, (image - mean) / np.where(flat, 1, spread), np.nan).astype(np.float32)


def _to_nearest_axis(covariance: FloatArray) -> FloatArray:
    """The smallest rotation that takes an axis of the array to the long axis of a label."""
    lengths, axes = np.linalg.eigh(covariance)
    if lengths[2] < _ELONGATED**2 * lengths[1]:
        return np.eye(3)
    long = axes[:, 2]
    nearest = np.zeros(3)
    nearest[np.abs(long).argmax()] = 1.0
    long = long * np.sign(long @ nearest)
    x, y, z = np.cross(nearest, long)
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + across + across @ across / (1 + float(nearest @ long))


class _Shapes:
    """Label shapes of all pairs, compared in every orientation and several pitches with the others' and the template's.

    Scores are cosines, shape (pairs, 48): of the pair, turned into an orientation, in its best pitch.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.masks = np.stack([sample.mask for sample in samples])
        self.samples = samples
        self.consensus = len(samples) >= LEAST_PAIRS
        template_scores, pitches = _score(self.masks, _template_mask())
        self.resembles = template_scores.max(axis=1) >= _PLAUSIBLE
        self.of_kind = bool(np.median(template_scores.max(axis=1)) >= _PLAUSIBLE)
        self.template_scores = template_scores
        scores = template_scores if self.of_kind else np.zeros_like(template_scores)
        if not self.of_kind:
            scores[:, 0], pitches = 1.0, np.zeros_like(pitches)
        if self.consensus:
            for _ in range(_ROUNDS):
                scores, pitches = _score(self.masks, self._laid(scores, pitches).sum(axis=0))
        self.turns = scores.argmax(axis=1)
        self.usual_index = int(np.bincount(self.turns, minlength=len(ORIENTATIONS)).argmax())
        self.usual = ORIENTATIONS[self.usual_index] if self.of_kind else None
        self.folds = np.arange(len(samples)) % min(_FOLDS, len(samples))
        self.consensus_scores, self.pitches = scores, pitches
        if self.consensus:
            laid = self._laid(scores, pitches)
            whole = laid.sum(axis=0)
            for fold in np.unique(self.folds):
                ours = self.folds == fold
                others = whole - laid[ours].sum(axis=0)
                self.consensus_scores[ours], self.pitches[ours] = _score(self.masks[ours], others)
            self.upright = self._values_upright()
        self.shares: dict[int, dict[int, FloatArray]] = {}

    def _laid(self, scores: FloatArray, pitches: IntArray) -> FloatArray:
        """The masks in the orientation and pitch that fit best."""
        laid = np.empty(self.masks.shape, np.float32)
        for index, best in enumerate(scores.argmax(axis=1)):
            turned = turn(self.masks[index], ORIENTATIONS[best]).astype(np.float32)
            laid[index] = _pitched(turned, -PITCHES_DEGREES[pitches[index, best]])
        return laid

    def verdict(self, index: int) -> tuple[Orientation, float, float]:
        """The best orientation, seen from that of most pairs, and the cosines in this one and the best other one."""
        usual = self.usual_index
        scores = []
        if self.consensus and self.consensus_scores[index].max() >= _PLAUSIBLE:
            scores.append(self.consensus_scores[index])
        if self.of_kind and self.resembles[index]:
            scores.append(self.template_scores[index])
        if not scores:
            return ORIENTATIONS[0], math.nan, math.nan
        mean = np.mean(scores, axis=0)
        others = np.delete(np.arange(len(ORIENTATIONS)), usual)
        best = int(others[mean[others].argmax()])
        own, other = float(mean[usual]), float(mean[best])
        return (relative(ORIENTATIONS[best], ORIENTATIONS[usual]) if other > own else ORIENTATIONS[0]), own, other

    def _values_upright(self) -> IntArray:
        """The label values of all pairs, turned as most of them lie, each in its own pitch."""
        upright = np.zeros(self.masks.shape, np.int32)
        for index, sample in enumerate(self.samples):
            labelled = np.where(sample.mask >= 128, sample.values, 0)
            pitch = -PITCHES_DEGREES[self.pitches[index, self.usual_index]]
            upright[index] = _pitched(turn(labelled, ORIENTATIONS[self.usual_index]), pitch, order=0)
        return upright

    def swapped(self, index: int, sample: Sample) -> tuple[tuple[tuple[int, int], ...], float]:
        """Find the exchange of values by which the labels fit the others' best."""
        if not self.consensus:
            return (), 0.0
        own = self.upright[index]
        values = [int(value) for value in np.unique(own) if value]
        shares = self._shares(index, values)
        values = [value for value in values if shares[value].any()]
        if len(values) < 2:
            return (), 0.0
        overlaps = np.array([[_cosine(own == ours, shares[theirs]) for theirs in values] for ours in values])
        _, partners = optimize.linear_sum_assignment(-overlaps)
        moved = [position for position, partner in enumerate(partners) if position != partner]
        if not moved:
            return (), 0.0
        gain = float(np.mean([overlaps[i, partners[i]] - overlaps[i, i] for i in moved]))
        return tuple((values[i], values[partners[i]]) for i in moved), gain

    def _shares(self, index: int, values: Sequence[int]) -> dict[int, FloatArray]:
        """Value -> how many of the other pairs that have it have it in a voxel."""
        fold = int(self.folds[index])
        shares = self.shares.setdefault(fold, {})
        for value in values:
            if value not in shares:
                shares[value] = (self.upright[self.folds != fold] == value).mean(axis=0, dtype=np.float32)
        return shares


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / lengths if lengths else 0.0


@cache
def _template_mask() -> IntArray:
    """The template's right hippocampus, which lies in network space as it lies in the head."""
    mask = load_hippocampus("R").astype(np.uint8)
    sample = take_sample(mask, mask.astype(np.float32), (SPACING_MM,) * 3)
    return sample.mask if sample is not None else mask


def _score(masks: IntArray, reference: np.ndarray) -> tuple[FloatArray, IntArray]:
    """Cosines of masks with a reference, per orientation of the mask: in the best pitch, and its index."""
    indices = np.arange(EDGE**3).reshape((EDGE,) * 3)
    pitched = [_pitched(reference.astype(np.float32), degrees).ravel() for degrees in PITCHES_DEGREES]
    unit = [one / max(float(np.linalg.norm(one)), 1e-6) for one in pitched]
    turned = np.empty((len(ORIENTATIONS), len(unit), EDGE**3), np.float32)
    for number, orientation in enumerate(ORIENTATIONS):
        places = turn(indices, orientation).ravel()
        for pitch, one in enumerate(unit):
            turned[number, pitch, places] = one
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    scores = (flat @ turned.reshape(-1, EDGE**3).T).reshape(len(masks), len(ORIENTATIONS), len(unit))
    return scores.max(axis=2), scores.argmax(axis=2)


def _pitched(array: np.ndarray, degrees: int, *, order: int = 1) -> np.ndarray:
    """Turn around axis 0."""
    if not degrees:
        return array
    planes = array.reshape(EDGE, -1).T
    return np.ascontiguousarray((_rotation(degrees, order) @ planes).T).reshape(array.shape)


@cache
def _rotation(degrees: int, order: int) -> sparse.csr_matrix:
    """The pixels of a plane that has been turned, each as a sum of pixels of the plane before."""
    middle, pixels = (EDGE - 1) / 2, np.indices((EDGE, EDGE)).reshape(2, -1) - (EDGE - 1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    places = np.array([[cos, sin], [-sin, cos]]) @ pixels + middle
    first = np.rint(places) if order == 0 else np.floor(places)
    rows, columns, weights = [], [], []
    for step in product((0, 1), repeat=2) if order else ((0, 0),):
        at = first.astype(int) + np.array(step)[:, None]
        weight = np.ones(at.shape[1]) if order == 0 else np.prod(1 - np.abs(places - at), axis=0)
        inside = ((at >= 0) & (at < EDGE)).all(axis=0)
        rows.append(np.flatnonzero(inside))
        columns.append((at[0] * EDGE + at[1])[inside])
        weights.append(weight[inside])
    content = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(content, shape=(EDGE**2, EDGE**2), dtype=np.float32)


_ImagePlace = tuple[Orientation | None, bool, float, float]
"""What `Likeness` says of images: orientation, whether it fits, by how far it is off, what moving it would gain."""

_NO_IMAGE: _ImagePlace = (None, False, math.nan, math.nan)


def _compare_images(samples: Sequence[Sample], shapes: _Shapes) -> dict[int, _ImagePlace]:
    """Find by how much each image lies off its label, and how it lies, against the images of the other pairs."""
    usual = ORIENTATIONS[shapes.usual_index]
    right = [index for index in range(len(samples)) if shapes.verdict(index)[0] == ORIENTATIONS[0]]
    if len(right) < LEAST_PAIRS - 1:
        return {}
    around = np.mean([turn(samples[index].around, usual) for index in right], axis=0, dtype=np.float32)
    window = ndimage.distance_transform_edt(around < 128, sampling=GRID_MM) <= _WINDOW_MM
    images = {index: _standardised(turn(samples[index].image, usual), window) for index in range(len(samples))}
    total = np.sum([np.nan_to_num(images[index]) for index in right], axis=0)
    seen = np.sum([np.isfinite(images[index]) for index in right], axis=0)
    found: dict[int, _Moved] = {}
    views: dict[int, _View] = {}
    for fold in np.unique(shapes.folds):
        own = [index for index in right if shapes.folds[index] == fold]
        part, known = total.copy(), seen.copy()
        for index in own:
            part -= np.nan_to_num(images[index])
            known -= np.isfinite(images[index])
        views[int(fold)] = _View(part / np.maximum(known, 1), window & (known >= 0.3 * len(right)))
    for index in range(len(samples)):
        found[index] = views[int(shapes.folds[index])].search(images[index])
    correlations = np.array([found[index].best for index in right])
    usual_fit = float(np.median(correlations))
    if usual_fit < _LEAST_CORRELATION:
        return {}
    spread = 1.4826 * float(np.median(np.abs(correlations - usual_fit)))
    low = usual_fit - max(3 * spread, 0.1)
    said: dict[int, _ImagePlace] = {}
    for index, moved in found.items():
        orientation: Orientation = ORIENTATIONS[0]
        if moved.best < low or index not in right:
            view = views[int(shapes.folds[index])]
            correlated = [view.search(turn(images[index], one)).best for one in ORIENTATIONS]
            best = int(np.argmax(correlated))
            if correlated[best] > correlated[0] + _IMAGE_GAIN:
                orientation = ORIENTATIONS[best]
        fits = moved.best - moved.gain >= low
        said[index] = (orientation, fits, moved.distance_mm, moved.gain + _UNLIKE * min(moved.best - usual_fit, 0.0))
    return said


_LEAST_CORRELATION = 0.35
_IMAGE_GAIN = 0.1
_UNLIKE = 0.5


def _standardised(image: FloatArray, window: BoolArray) -> FloatArray:
    """Mean 0 and standard deviation 1 in the window; values that nothing lies at stay NaN."""
    inside = image[window]
    inside = inside[np.isfinite(inside)]
    if inside.size < 2:
        return np.full_like(image, np.nan)
    return (image - inside.mean()) / max(float(inside.std()), 1e-6)


@dataclass(frozen=True)
class _Moved:
    """The move of an image that correlates best with a view: how far, correlation without and with it."""

    distance_mm: float
    gain: float
    best: float


class _View:
    """What the others' images look like around their labels."""

    def __init__(self, mean: FloatArray, window: BoolArray) -> None:
        self.count = int(np.count_nonzero(window))
        seen = np.where(window, mean, 0.0)
        self.spectra = [_spectrum(one).conj() for one in (window.astype(np.float32), seen, seen**2)]

    def search(self, image: FloatArray) -> _Moved:
        """Correlate with an image moved by up to 10 mm along each axis."""
        known = np.isfinite(image)
        values = np.where(known, image, 0.0)
        ours = [_spectrum(one) for one in (known.astype(np.float32), values, values**2)]
        (window, mean, squares), (inside, image_values, image_squares) = self.spectra, ours
        count = np.maximum(_near(inside * window), 1.0)
        sums, others = _near(image_values * window), _near(inside * mean)
        products = _near(image_values * mean) - sums * others / count
        spreads = (_near(image_squares * window) - sums**2 / count) * (_near(inside * squares) - others**2 / count)
        correlation = products / np.sqrt(np.maximum(spreads, 1e-6))
        correlation[count < _LEAST_SEEN * self.count] = -1.0
        middle = correlation.shape[0] // 2
        best = np.unravel_index(int(correlation.argmax()), correlation.shape)
        distance_mm = float(np.linalg.norm(np.array(best) - middle)) * GRID_MM
        highest, here = float(correlation[best]), float(correlation[middle, middle, middle])
        return _Moved(distance_mm, highest - here, highest)


def _spectrum(array: FloatArray) -> np.ndarray:
    return fft.rfftn(array.astype(np.float32), (_FFT_EDGE,) * 3)


def _near(spectrum: np.ndarray) -> FloatArray:
    """Back from frequencies to moves of up to `_REACH_MM` along each axis; all others are dropped axis by axis."""
    steps = round(_REACH_MM / GRID_MM)
    moves = np.arange(-steps, steps + 1)
    for axis in (0, 1):
        spectrum = fft.ifft(spectrum, axis=axis).take(moves, axis=axis)
    return fft.irfft(spectrum, _FFT_EDGE).take(moves, axis=2)
