// Read the label maps that the server sends: NIfTI-1, one file, perhaps gzipped.

const TYPES = {
  2: ['getUint8', 1],
  4: ['getInt16', 2],
  8: ['getInt32', 4],
  16: ['getFloat32', 4],
  64: ['getFloat64', 8],
  256: ['getInt8', 1],
  512: ['getUint16', 2],
  768: ['getUint32', 4],
};

/** Unpack a gzipped buffer; any other comes back as it is. */
export async function gunzip(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return buffer;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

export async function gzip(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip'))).arrayBuffer();
}

/**
 * Read a label map: {shape, affine, data: Uint16Array, first axis fastest}. Throws an Error in words for anything that
 * is no label map: another format, a number that is no whole value from 0 to 65535, a file that is cut off.
 */
export function readLabels(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 352) throw new Error('the label map is cut off');
  const little = view.getInt32(0, true) === 348;
  if (!little && view.getInt32(0, false) !== 348) throw new Error('the label map is not NIfTI-1');
  const shape = [1, 2, 3].map((n) => Math.max(1, view.getInt16(40 + 2 * n, little)));
  const type = TYPES[view.getInt16(70, little)];
  if (!type) throw new Error('the label map has a data type that labels never have');
  const offset = view.getFloat32(108, little);
  const slope = view.getFloat32(112, little) || 1;
  const intercept = view.getFloat32(116, little) || 0;
  const voxels = shape[0] * shape[1] * shape[2];
  const [get, size] = type;
  if (buffer.byteLength < offset + voxels * size) throw new Error('the label map is cut off');
  const data = new Uint16Array(voxels);
  for (let index = 0; index < voxels; index++) {
    const raw = view[get](offset + index * size, little) * slope + intercept;
    const value = Math.round(raw);
    if (!(Math.abs(raw - value) < 1e-3) || value < 0 || value > 65535)
      throw new Error(`the label map holds ${raw}, which is no label`);
    data[index] = value;
  }
  return { shape, affine: affineOf(view, little), data };
}

function affineOf(view, little) {
  const float = (at) => view.getFloat32(at, little);
  if (view.getInt16(254, little) > 0) {
    return [[280, 296, 312].map((at) => [0, 4, 8, 12].map((more) => float(at + more))), [[0, 0, 0, 1]]].flat();
  }
  const [b, c, d] = [256, 260, 264].map(float);
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  const [x, y, z] = [80, 84, 88].map(float);
  const q = float(76) < 0 ? -1 : 1;
  return [
    [(a * a + b * b - c * c - d * d) * x, 2 * (b * c - a * d) * y, 2 * (b * d + a * c) * z * q, float(268)],
    [2 * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, 2 * (c * d - a * b) * z * q, float(272)],
    [2 * (b * d - a * c) * x, 2 * (c * d + a * b) * y, (a * a + d * d - b * b - c * c) * z * q, float(276)],
    [0, 0, 0, 1],
  ];
}
