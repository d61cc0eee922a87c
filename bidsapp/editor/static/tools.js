// The editing tools. Each writes into a step (`Edit` of history.js) and knows neither page nor picture.
//
// Common arguments: `value` is what is painted, 0 erases. `over` says which voxels may be painted over: 'all',
// 'background', or the value of a label. `axis` is the voxel axis that runs through a plane, `slice` its index.

import { ballReach, inner, metric, spacingMm } from './geometry.js';

function mayPaint(over, old) {
  if (over === 'all') return true;
  return old === (over === 'background' ? 0 : over);
}

/**
 * Paint along a straight line between two places: a round brush that was drawn from one to the other.
 *
 * @param {number[]} from, to voxels (fractions)
 * @param {number} radiusMm voxels whose centres are at most that far from the line; the one at `to` in any case
 * @param {?number} axis paint a disc in the plane of `to` that this voxel axis runs through; null: a ball
 */
export function paint(edit, { from, to, radiusMm, value, over = 'all', axis = null }) {
  const { volume } = edit;
  const [start, end] = [[...from], [...to]];
  if (axis !== null) start[axis] = end[axis] = Math.round(to[axis]);
  const nearest = end.map(Math.round);
  const G = metric(volume.affine);
  const along = end.map((n, p) => n - start[p]);
  const length2 = inner(G, along, along);
  const [low, high] = reach(volume, start, end, radiusMm, axis);
  const limit = radiusMm ** 2 * (1 + 1e-9);
  for (let k = low[2]; k <= high[2]; k++) {
    for (let j = low[1]; j <= high[1]; j++) {
      for (let i = low[0]; i <= high[0]; i++) {
        const d = [i - start[0], j - start[1], k - start[2]];
        const t = length2 > 0 ? Math.min(1, Math.max(0, inner(G, d, along) / length2)) : 0;
        for (let p = 0; p < 3; p++) d[p] -= t * along[p];
        const here = i === nearest[0] && j === nearest[1] && k === nearest[2];
        if (here || inner(G, d, d) <= limit) paintVoxel(edit, volume.index([i, j, k]), value, over);
      }
    }
  }
}

function reach(volume, start, end, radiusMm, axis) {
  const margin = ballReach(volume.affine, radiusMm);
  const low = [0, 1, 2].map((p) =>
    Math.max(0, Math.min(Math.round(end[p]), Math.ceil(Math.min(start[p], end[p]) - margin[p]))),
  );
  const high = [0, 1, 2].map((p) =>
    Math.min(volume.shape[p] - 1, Math.max(Math.round(end[p]), Math.floor(Math.max(start[p], end[p]) + margin[p]))),
  );
  if (axis !== null) {
    low[axis] = Math.max(0, end[axis]);
    high[axis] = Math.min(volume.shape[axis] - 1, end[axis]);
  }
  return [low, high];
}

function paintVoxel(edit, index, value, over) {
  if (mayPaint(over, edit.volume.data[index])) edit.set(index, value);
}

/** Fill a polygon or a lasso: voxels of the plane whose centres are inside (even-odd). `points` are voxels (fractions). */
export function fillPolygon(edit, { points, axis, slice, value, over = 'all' }) {
  const plane = new Plane(edit.volume, axis);
  const corners = points.map((point) => [point[plane.u], point[plane.v]]);
  for (let v = 0; v < plane.nv; v++) {
    const crossings = crossingsOf(corners, v);
    for (let c = 0; c + 1 < crossings.length; c += 2) {
      const last = Math.min(plane.nu - 1, Math.ceil(crossings[c + 1]) - 1);
      for (let u = Math.max(0, Math.ceil(crossings[c])); u <= last; u++)
        paintVoxel(edit, plane.index(u, v, slice), value, over);
    }
  }
}

function crossingsOf(corners, v) {
  const found = [];
  corners.forEach(([u1, v1], n) => {
    const [u2, v2] = corners[(n + 1) % corners.length];
    if (v1 <= v !== v2 <= v) found.push(u1 + ((v - v1) / (v2 - v1)) * (u2 - u1));
  });
  return found.sort((one, other) => one - other);
}

/** Give a slice the shape that a label has in another one; what it had of that label itself goes. */
export function copySlice(edit, { axis, slice, from, value, over = 'all' }) {
  const plane = new Plane(edit.volume, axis);
  const { data } = edit.volume;
  if (from < 0 || from >= edit.volume.shape[axis]) return;
  for (let v = 0; v < plane.nv; v++) {
    for (let u = 0; u < plane.nu; u++) {
      const index = plane.index(u, v, slice);
      if (data[plane.index(u, v, from)] === value) paintVoxel(edit, index, value, over);
      else if (data[index] === value) edit.set(index, 0);
    }
  }
}

/** Make a label one voxel larger on all sides (6 neighbours). */
export function grow(edit, { value, over = 'background' }) {
  const found = [];
  forEachNeighbour(edit.volume, value, (index, neighbour) => {
    if (neighbour >= 0 && edit.volume.data[neighbour] !== value) found.push(neighbour);
  });
  for (const index of found) paintVoxel(edit, index, value, over);
}

/** Make a label one voxel smaller on all sides (6 neighbours); the border of the grid does not count as a side. */
export function shrink(edit, { value }) {
  const found = [];
  forEachNeighbour(edit.volume, value, (index, neighbour) => {
    if (neighbour >= 0 && edit.volume.data[neighbour] !== value) found.push(index);
  });
  for (const index of found) edit.set(index, 0);
}

function forEachNeighbour(volume, value, visit) {
  const box = volume.bounds(value);
  if (!box) return;
  const [[i0, j0, k0], [i1, j1, k1]] = box;
  for (let k = k0; k <= k1; k++) {
    for (let j = j0; j <= j1; j++) {
      for (let i = i0; i <= i1; i++) {
        const index = volume.index([i, j, k]);
        if (volume.data[index] !== value) continue;
        [i, j, k].forEach((n, axis) => {
          visit(index, n > 0 ? index - volume.strides[axis] : -1);
          visit(index, n < volume.shape[axis] - 1 ? index + volume.strides[axis] : -1);
        });
      }
    }
  }
}

/**
 * Erase every piece of a label but the largest; `value` null: of all labels together.
 *
 * Pieces are joined by faces, edges or corners (26 neighbours), as the guard `pieces` counts them. Of equally large
 * ones the first in storage stays. Returns how many pieces went.
 */
export function keepLargest(edit, { value = null }) {
  const pieces = piecesOf(edit.volume, value);
  const largest = pieces.reduce((best, piece) => (piece.length > best.length ? piece : best), []);
  for (const piece of pieces) if (piece !== largest) for (const index of piece) edit.set(index, 0);
  return Math.max(0, pieces.length - 1);
}

function piecesOf(volume, value) {
  const box = volume.bounds(value);
  if (!box) return [];
  const isIn = (index) => (value === null ? volume.data[index] !== 0 : volume.data[index] === value);
  const seen = new Uint8Array(volume.data.length);
  const pieces = [];
  const [[i0, j0, k0], [i1, j1, k1]] = box;
  for (let k = k0; k <= k1; k++) {
    for (let j = j0; j <= j1; j++) {
      for (let i = i0; i <= i1; i++) {
        const index = volume.index([i, j, k]);
        if (!seen[index] && isIn(index)) pieces.push(flood(volume, index, isIn, seen));
      }
    }
  }
  return pieces;
}

function flood(volume, start, isIn, seen) {
  const piece = [start];
  seen[start] = 1;
  for (let at = 0; at < piece.length; at++) {
    const [i, j, k] = volume.voxel(piece[at]);
    for (let dk = -1; dk <= 1; dk++) {
      for (let dj = -1; dj <= 1; dj++) {
        for (let di = -1; di <= 1; di++) {
          const voxel = [i + di, j + dj, k + dk];
          if (!volume.contains(voxel)) continue;
          const index = volume.index(voxel);
          if (seen[index] || !isIn(index)) continue;
          seen[index] = 1;
          piece.push(index);
        }
      }
    }
  }
  return piece;
}

/**
 * Fill a label between the slices that were edited, each pair of neighbours in turn, by signed distances.
 *
 * Between two of them a voxel belongs to the label where the weighted mean of its signed distances (mm, in plane) to
 * the label's border in both is not below zero. A label that one of the two lacks is left as it is between them.
 * Distances along the two axes of the plane are taken as if these were at right angles.
 *
 * @param {number[]} slices ascending; fewer than two fill nothing
 */
export function interpolateSlices(edit, { axis, slices, value, over = 'all' }) {
  const plane = new Plane(edit.volume, axis);
  for (let n = 0; n + 1 < slices.length; n++) {
    const [first, last] = [slices[n], slices[n + 1]];
    if (last - first < 2) continue;
    const ends = [first, last].map((slice) => signedDistance(plane, slice, value));
    if (ends.some((distance) => distance === null)) continue;
    for (let slice = first + 1; slice < last; slice++)
      fillBetween(edit, plane, slice, ends, (slice - first) / (last - first), value, over);
  }
}

function fillBetween(edit, plane, slice, [before, after], weight, value, over) {
  for (let v = 0, at = 0; v < plane.nv; v++) {
    for (let u = 0; u < plane.nu; u++, at++) {
      const index = plane.index(u, v, slice);
      const inside = (1 - weight) * before[at] + weight * after[at] >= 0;
      if (inside) paintVoxel(edit, index, value, over);
      else if (edit.volume.data[index] === value) edit.set(index, 0);
    }
  }
}

/**
 * Distance in mm of every voxel of a slice to the border of a label, which runs half-way between voxel centres as far
 * as one can tell: positive inside, negative outside. null where the label is not in the slice.
 */
export function signedDistance(plane, slice, value) {
  const inside = new Uint8Array(plane.nu * plane.nv);
  let voxels = 0;
  for (let v = 0, at = 0; v < plane.nv; v++) {
    for (let u = 0; u < plane.nu; u++, at++) {
      inside[at] = plane.volume.data[plane.index(u, v, slice)] === value ? 1 : 0;
      voxels += inside[at];
    }
  }
  if (!voxels) return null;
  const half = Math.min(...plane.spacingMm) / 2;
  const toInside = distanceTo(inside, 1, plane);
  const toOutside = distanceTo(inside, 0, plane);
  return toInside.map((distance, at) => (inside[at] ? toOutside[at] - half : half - distance));
}

/** Exact Euclidean distance (Felzenszwalb and Huttenlocher 2012) in mm to the next voxel of a plane marked `mark`. */
function distanceTo(marks, mark, plane) {
  const { nu, nv } = plane;
  const squared = Float64Array.from(marks, (one) => (one === mark ? 0 : 1e12));
  for (let v = 0; v < nv; v++) transformLine(squared, v * nu, 1, nu, plane.spacingMm[0]);
  for (let u = 0; u < nu; u++) transformLine(squared, u, nu, nv, plane.spacingMm[1]);
  return squared.map(Math.sqrt);
}

function transformLine(values, start, step, length, spacing) {
  const f = Float64Array.from({ length }, (_, n) => values[start + n * step]);
  const at = (q) => (q * spacing) ** 2;
  const parabolas = [0];
  const borders = [-Infinity];
  for (let q = 1; q < length; q++) {
    let border;
    for (;;) {
      const p = parabolas[parabolas.length - 1];
      border = (f[q] + at(q) - f[p] - at(p)) / (2 * spacing * spacing * (q - p));
      if (border > borders[borders.length - 1]) break;
      parabolas.pop();
      borders.pop();
    }
    parabolas.push(q);
    borders.push(border);
  }
  for (let q = 0, p = 0; q < length; q++) {
    while (p + 1 < parabolas.length && borders[p + 1] < q) p++;
    values[start + q * step] = ((q - parabolas[p]) * spacing) ** 2 + f[parabolas[p]];
  }
}

/** The slices of a volume along one voxel axis; (u, v) are the two others in ascending order. */
export class Plane {
  constructor(volume, axis) {
    this.volume = volume;
    this.axis = axis;
    [this.u, this.v] = [0, 1, 2].filter((one) => one !== axis);
    [this.nu, this.nv] = [volume.shape[this.u], volume.shape[this.v]];
    const spacing = spacingMm(volume.affine);
    this.spacingMm = [spacing[this.u], spacing[this.v]];
  }

  index(u, v, slice) {
    const { strides } = this.volume;
    return u * strides[this.u] + v * strides[this.v] + slice * strides[this.axis];
  }
}
