import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RasOrder, rasPermutation } from '../../../bidsapp/editor/static/geometry.js';
import { KEYS, actionOf, keyOf } from '../../../bidsapp/editor/static/keys.js';
import { gunzip, gzip, readLabels } from '../../../bidsapp/editor/static/nifti.js';
import { Palette, drawAll, drawRun } from '../../../bidsapp/editor/static/palette.js';
import { LabelVolume } from '../../../bidsapp/editor/static/volume.js';
import { GRIDS } from './grids.mjs';

const TABLE = [
  { value: 1, name: 'Anterior', color: '#56B4E9' },
  { value: 1000, name: 'Far', color: '#E69F00' },
];

test('no key stands for two things', () => {
  const shown = Object.values(KEYS)
    .flat()
    .map(([key]) => key);
  assert.equal(new Set(shown).size, shown.length);
  const actions = Object.values(KEYS)
    .flat()
    .map(([, action]) => action);
  assert.equal(new Set(actions).size, actions.length);
});

test('a key press becomes its action', () => {
  for (const [event, action] of [
    [{ key: 'a' }, 'approve'],
    [{ key: 'A', shiftKey: true }, 'accept'],
    [{ key: 'A' }, 'approve'], // caps lock
    [{ key: 'z', ctrlKey: true }, 'undo'],
    [{ key: 'z', metaKey: true }, 'undo'],
    [{ key: 'Z', ctrlKey: true, shiftKey: true }, 'redo'],
    [{ key: 'z' }, 'zoomIn'],
    [{ key: '7' }, 'label'],
    [{ key: '?', shiftKey: true }, 'help'],
    [{ key: '+', shiftKey: true }, 'grow'],
    [{ key: '=' }, 'grow'],
    [{ key: 'a', ctrlKey: true }, null],
    [{ key: 'a', altKey: true }, null],
    [{ key: '[', altKey: true, ctrlKey: true }, 'smaller'],
    [{ key: 'ArrowUp', altKey: true }, null],
    [{ key: '0', altKey: true }, null],
    [{ key: 'F5' }, null],
  ])
    assert.equal(actionOf(event), action, JSON.stringify(event));
  assert.equal(keyOf('nextSide'), 'n');
});

test('values above 255 and values without a name can be shown', () => {
  const palette = new Palette(TABLE, [0, 1, 77]);
  assert.deepEqual(
    [0, 1, 77, 1000].map((value) => palette.numbers[value]),
    [0, 1, 3, 2],
  );
  assert.equal(palette.name(77), 'value 77 (no name)');
  assert.deepEqual([...palette.colours().slice(0, 12)], [0, 0, 0, 0, 0x56, 0xb4, 0xe9, 255, 0xe6, 0x9f, 0, 255]);
  assert.throws(
    () =>
      new Palette(
        [],
        Array.from({ length: 256 }, (_, n) => n + 1),
      ),
    /256 labels/,
  );
});

test('the picture holds every voxel where its place in the head is', () => {
  const palette = new Palette(TABLE);
  for (const [name, grid] of Object.entries(GRIDS)) {
    const order = new RasOrder(grid.shape, rasPermutation(grid.affine));
    const volume = new LabelVolume(grid);
    volume.data.forEach((_, index) => {
      volume.data[index] = [0, 1, 1000][index % 3];
    });
    const bitmap = new Uint8Array(volume.data.length);
    drawAll(volume, bitmap, order, palette);
    volume.data.forEach((value, index) =>
      assert.equal(bitmap[order.index(volume.voxel(index))], palette.numbers[value], name),
    );
    const before = bitmap.slice();
    volume.data.fill(1, 20, 27);
    const [low, high] = drawRun(volume, bitmap, order, palette, 20, 7);
    const whole = new Uint8Array(volume.data.length);
    drawAll(volume, whole, order, palette);
    assert.deepEqual(bitmap, whole, name);
    const slab = order.shape[0] * order.shape[1];
    bitmap.forEach((value, at) =>
      assert.ok(value === before[at] || (at >= low * slab && at < (high + 1) * slab), name),
    );
  }
});

function nifti({ type, bits, shape, values, little = true, slope = 0, qform = false }) {
  const buffer = new ArrayBuffer(352 + values.length * (bits / 8));
  const view = new DataView(buffer);
  view.setInt32(0, 348, little);
  [3, ...shape].forEach((n, at) => view.setInt16(40 + 2 * at, n, little));
  view.setInt16(70, type, little);
  view.setFloat32(108, 352, little);
  view.setFloat32(112, slope, little);
  if (qform) {
    [-1, 0.5, 2, 3].forEach((n, at) => view.setFloat32(76 + 4 * at, n, little));
    view.setInt16(252, 1, little);
    [0, 0, 1, 10, 20, 30].forEach((n, at) => view.setFloat32(256 + 4 * at, n, little)); // half a turn about S
  } else {
    view.setInt16(254, 2, little);
    [-0.5, 0, 0, 3, 0, 1, 0, 4, 0, 0, 2, 5].forEach((n, at) => view.setFloat32(280 + 4 * at, n, little));
  }
  const set = { 2: 'setUint8', 4: 'setInt16', 16: 'setFloat32', 512: 'setUint16' }[type];
  values.forEach((value, at) => view[set](352 + at * (bits / 8), value, little));
  return buffer;
}

test('label maps of any integer or float type are read, also big-endian and gzipped', async () => {
  const shape = [2, 2, 1];
  const values = [0, 1, 300, 2];
  for (const more of [
    { type: 4, bits: 16 },
    { type: 16, bits: 32 },
    { type: 512, bits: 16 },
    { type: 4, bits: 16, little: false },
  ]) {
    const read = readLabels(await gunzip(await gzip(new Uint8Array(nifti({ shape, values, ...more })))));
    assert.deepEqual([...read.data], values);
    assert.deepEqual(read.shape, shape);
    assert.deepEqual(read.affine, [
      [-0.5, 0, 0, 3],
      [0, 1, 0, 4],
      [0, 0, 2, 5],
      [0, 0, 0, 1],
    ]);
  }
  const scaled = readLabels(nifti({ shape, values: [0, 1, 2, 3], type: 2, bits: 8, slope: 2, qform: true }));
  assert.deepEqual([...scaled.data], [0, 2, 4, 6]);
  assert.deepEqual(
    scaled.affine.map((row) => row.map((n) => n + 0)),
    [
      [-0.5, 0, 0, 10],
      [0, -2, 0, 20],
      [0, 0, -3, 30],
      [0, 0, 0, 1],
    ],
  );
});

test('what is no label map is refused in words', () => {
  const shape = [2, 2, 1];
  assert.throws(
    () => readLabels(nifti({ shape, values: [0, 1, 2, 0.5], type: 16, bits: 32 })),
    /holds 0.5, which is no label/,
  );
  assert.throws(() => readLabels(nifti({ shape, values: [0, 1, 2, -1], type: 4, bits: 16 })), /holds -1/);
  assert.throws(() => readLabels(nifti({ shape, values: [0, 1, 2, NaN], type: 16, bits: 32 })), /holds NaN/);
  assert.throws(() => readLabels(nifti({ shape, values: [0, 1, 2], type: 4, bits: 16 })), /cut off/);
  assert.throws(() => readLabels(new ArrayBuffer(400)), /not NIfTI-1/);
});
