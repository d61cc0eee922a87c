// A label volume on the crop's grid: what a person edits, and the truth that is saved.

/** Labels of a grid, first axis fastest, as NIfTI stores them. */
export class LabelVolume {
  /**
   * @param {{shape: number[], affine: number[][]}} grid
   * @param {Uint16Array} [data] one value per voxel; all background where left out
   */
  constructor(grid, data) {
    const voxels = grid.shape[0] * grid.shape[1] * grid.shape[2];
    if (data !== undefined && data.length !== voxels) {
      throw new RangeError(`a label map of ${data.length} voxels does not fill a grid of ${grid.shape.join(' x ')}`);
    }
    this.shape = [...grid.shape];
    this.affine = grid.affine;
    this.data = data ?? new Uint16Array(voxels);
    this.strides = [1, grid.shape[0], grid.shape[0] * grid.shape[1]];
  }

  copy() {
    return new LabelVolume(this, this.data.slice());
  }

  index([i, j, k]) {
    return i + this.strides[1] * j + this.strides[2] * k;
  }

  voxel(index) {
    const k = Math.floor(index / this.strides[2]);
    const rest = index - k * this.strides[2];
    const j = Math.floor(rest / this.strides[1]);
    return [rest - j * this.strides[1], j, k];
  }

  contains(voxel) {
    return voxel.every((n, axis) => n >= 0 && n < this.shape[axis]);
  }

  at(voxel) {
    return this.data[this.index(voxel)];
  }

  /** Every value that is met, in ascending order, without the background. */
  values() {
    const met = new Uint8Array(65536);
    for (const value of this.data) met[value] = 1;
    const found = [];
    for (let value = 1; value < met.length; value++) if (met[value]) found.push(value);
    return found;
  }

  /** The voxel box [from, to] (both inside) around all voxels with that value, or with any label; null: none. */
  bounds(value = null) {
    const [from, to] = [[...this.shape], [-1, -1, -1]];
    const [ni, nj, nk] = this.shape;
    for (let k = 0, index = 0; k < nk; k++) {
      for (let j = 0; j < nj; j++) {
        for (let i = 0; i < ni; i++, index++) {
          if (value === null ? this.data[index] === 0 : this.data[index] !== value) continue;
          if (i < from[0]) from[0] = i;
          if (i > to[0]) to[0] = i;
          if (j < from[1]) from[1] = j;
          if (j > to[1]) to[1] = j;
          if (k < from[2]) from[2] = k;
          to[2] = k;
        }
      }
    }
    return to[2] < 0 ? null : [from, to];
  }
}

/** value -> how many voxels gained or lost it between two label maps of one grid. */
export function changedVoxels(before, after) {
  const changed = {};
  for (let index = 0; index < before.data.length; index++) {
    const [was, is] = [before.data[index], after.data[index]];
    if (was === is) continue;
    if (was) changed[was] = (changed[was] ?? 0) + 1;
    if (is) changed[is] = (changed[is] ?? 0) + 1;
  }
  return changed;
}

/** The bytes that the server takes as a draft: little-endian uint16, first axis fastest. */
export function toBytes(volume) {
  const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  if (littleEndian) return new Uint8Array(volume.data.buffer, volume.data.byteOffset, volume.data.byteLength);
  const view = new DataView(new ArrayBuffer(volume.data.length * 2));
  volume.data.forEach((value, index) => view.setUint16(2 * index, value, true));
  return new Uint8Array(view.buffer);
}
