// Where voxels lie: voxel <-> millimetre, lengths in any grid, and the order in which the viewer stores a volume.
//
// A grid is {shape: [ni, nj, nk], affine: 4 rows of 4 numbers, voxel index -> RAS mm}. Voxel indices are of voxel
// centres and may be fractions. Any axis order, direction, obliqueness and spacing is allowed.

/** RAS mm of a voxel. */
export function voxelToMm(affine, [i, j, k]) {
  return [0, 1, 2].map((row) => affine[row][0] * i + affine[row][1] * j + affine[row][2] * k + affine[row][3]);
}

/** Voxel (fractions) at a place in RAS mm. Throws where the affine has no inverse. */
export function mmToVoxel(affine, mm) {
  const inverse = inverse3(affine);
  const from = [0, 1, 2].map((row) => mm[row] - affine[row][3]);
  return [0, 1, 2].map((row) => inverse[row][0] * from[0] + inverse[row][1] * from[1] + inverse[row][2] * from[2]);
}

function inverse3(affine) {
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  if (!Number.isFinite(1 / determinant)) throw new RangeError('the affine has no inverse');
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / determinant));
}

/** Length in mm of one step along each voxel axis. */
export function spacingMm(affine) {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]));
}

/** 3 x 3 matrix G with |d|^2 in mm^2 = d' G d for a difference d of voxel indices; exact for sheared grids too. */
export function metric(affine) {
  const dot = (p, q) => affine[0][p] * affine[0][q] + affine[1][p] * affine[1][q] + affine[2][p] * affine[2][q];
  return [0, 1, 2].map((p) => [0, 1, 2].map((q) => dot(p, q)));
}

/** d' G e of two differences of voxel indices, in mm^2. */
export function inner(G, d, e) {
  let sum = 0;
  for (let p = 0; p < 3; p++) for (let q = 0; q < 3; q++) sum += d[p] * G[p][q] * e[q];
  return sum;
}

/** Half the side lengths, in voxels, of the box around a ball of that radius. */
export function ballReach(affine, radiusMm) {
  const inverse = inverse3(affine);
  return inverse.map((row) => radiusMm * Math.hypot(...row));
}

/**
 * The voxel axis and direction that each of R, A and S runs along most: [1, 2, 3] in a RAS grid, [-1, -2, 3] in an
 * LPS grid, [3, -1, -2] in a PIR grid. The order in which NiiVue stores what it shows.
 */
export function rasPermutation(affine) {
  const weight = (row, axis) => Math.abs(affine[row][axis]);
  const largest = (row, among) => among.reduce((best, axis) => (weight(row, axis) > weight(row, best) ? axis : best));
  const x = largest(0, [0, 1, 2]);
  const y = largest(1, [0, 1, 2].filter((axis) => axis !== x).reverse());
  const axes = [x, y, 3 - x - y];
  return axes.map((axis, row) => (affine[row][axis] < 0 ? -(axis + 1) : axis + 1));
}

/** How voxels of a grid of `shape` lie in a volume that is stored in RAS order; see `rasPermutation`. */
export class RasOrder {
  constructor(shape, permutation) {
    this.axes = permutation.map((one) => Math.abs(one) - 1);
    this.reversed = permutation.map((one) => one < 0);
    this.shape = this.axes.map((axis) => shape[axis]);
    this.strides = [0, 0, 0];
    this.start = 0;
    let stride = 1;
    for (let row = 0; row < 3; row++) {
      this.strides[this.axes[row]] = this.reversed[row] ? -stride : stride;
      if (this.reversed[row]) this.start += stride * (this.shape[row] - 1);
      stride *= this.shape[row];
    }
  }

  /** Index into the RAS-ordered volume of a voxel (whole numbers) of the grid. */
  index([i, j, k]) {
    return this.start + i * this.strides[0] + j * this.strides[1] + k * this.strides[2];
  }

  /** RAS-ordered voxel -> voxel of the grid; fractions are kept. */
  toGrid(ras) {
    const voxel = [0, 0, 0];
    for (let row = 0; row < 3; row++)
      voxel[this.axes[row]] = this.reversed[row] ? this.shape[row] - 1 - ras[row] : ras[row];
    return voxel;
  }

  /** Voxel of the grid -> RAS-ordered voxel; fractions are kept. */
  fromGrid(voxel) {
    return this.axes.map((axis, row) => (this.reversed[row] ? this.shape[row] - 1 - voxel[axis] : voxel[axis]));
  }
}

/** Whether two grids are the same: equal shapes, and corners nearer than `toleranceMm`. */
export function sameGrid(one, other, toleranceMm = 0.03) {
  if (one.shape.some((n, axis) => n !== other.shape[axis])) return false;
  return corners(one.shape).every((corner) => {
    const [p, q] = [voxelToMm(one.affine, corner), voxelToMm(other.affine, corner)];
    return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) <= toleranceMm;
  });
}

function corners(shape) {
  const found = [];
  for (const i of [0, shape[0] - 1])
    for (const j of [0, shape[1] - 1]) for (const k of [0, shape[2] - 1]) found.push([i, j, k]);
  return found;
}
