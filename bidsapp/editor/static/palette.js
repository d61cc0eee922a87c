// Label values as the viewer can draw them: it knows 255 of them, label maps have values up to 65535.

const SPARE = ['#56B4E9', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#F0E442', '#0072B2', '#BBBBBB'];

/** Values <-> numbers from 1 to 255, and their colours. */
export class Palette {
  /**
   * @param {{value: number, name: string, color: string}[]} labels of the label table; color is #rrggbb
   * @param {number[]} [values] others that are met in label maps
   */
  constructor(labels, values = []) {
    const known = new Set(labels.map(({ value }) => value));
    const strangers = [...new Set(values)].filter((value) => value !== 0 && !known.has(value));
    this.labels = [
      ...labels,
      ...strangers.map((value, n) => ({
        value,
        name: `value ${value} (no name)`,
        color: SPARE[(known.size + n) % SPARE.length],
      })),
    ];
    if (this.labels.length > 255) throw new RangeError(`${this.labels.length} labels: the viewer can show 255`);
    this.numbers = new Uint8Array(65536);
    this.labels.forEach(({ value }, n) => {
      this.numbers[value] = n + 1;
    });
  }

  /** 256 RGBA colours, number by number; 0, the background, is transparent. */
  colours() {
    const lut = new Uint8ClampedArray(256 * 4);
    this.labels.forEach(({ color }, n) => lut.set([...rgb(color), 255], 4 * (n + 1)));
    return lut;
  }

  name(value) {
    return this.labels.find((label) => label.value === value)?.name ?? (value === 0 ? 'background' : `value ${value}`);
  }

  color(value) {
    return this.labels.find((label) => label.value === value)?.color ?? '#000000';
  }
}

function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

/** Draw a whole label volume into the viewer's bitmap. */
export function drawAll(volume, bitmap, order, palette) {
  const [ni, nj, nk] = volume.shape;
  const [si, sj, sk] = order.strides;
  for (let k = 0, at = 0; k < nk; k++) {
    for (let j = 0; j < nj; j++) {
      let to = order.start + j * sj + k * sk;
      for (let i = 0; i < ni; i++, at++, to += si) bitmap[to] = palette.numbers[volume.data[at]];
    }
  }
}

/**
 * Draw a run of voxels that follow each other in storage. Returns the lowest and highest RAS slice (third axis) that
 * it touched: what has to be sent to the graphics card.
 */
export function drawRun(volume, bitmap, order, palette, start, length) {
  const slab = order.shape[0] * order.shape[1];
  let [low, high] = [Infinity, -Infinity];
  for (let index = start; index < start + length; index++) {
    const to = order.index(volume.voxel(index));
    bitmap[to] = palette.numbers[volume.data[index]];
    const slice = Math.floor(to / slab);
    if (slice < low) low = slice;
    if (slice > high) high = slice;
  }
  return [low, high];
}
