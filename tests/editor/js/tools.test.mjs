import assert from 'node:assert/strict';
import { test } from 'node:test';

import { metric, inner } from '../../../bidsapp/editor/static/geometry.js';
import { History } from '../../../bidsapp/editor/static/history.js';
import * as tools from '../../../bidsapp/editor/static/tools.js';
import { LabelVolume } from '../../../bidsapp/editor/static/volume.js';
import { GRIDS } from './grids.mjs';

const isotropic = (n) => ({
  shape: [n, n, n],
  affine: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
  ],
});

function apply(volume, tool, options) {
  const history = new History(volume);
  const edit = history.begin();
  const said = tool(edit, options);
  history.commit(edit);
  return said;
}

function labelled(volume, value = 1) {
  const found = [];
  volume.data.forEach((one, index) => one === value && found.push(volume.voxel(index).join()));
  return found;
}

function box(volume, from, to, value) {
  for (let k = from[2]; k <= to[2]; k++)
    for (let j = from[1]; j <= to[1]; j++)
      for (let i = from[0]; i <= to[0]; i++) volume.data[volume.index([i, j, k])] = value;
}

test('a ball of 1 mm in 1 mm voxels is a voxel and its six neighbours', () => {
  const volume = new LabelVolume(isotropic(5));
  apply(volume, tools.paint, { from: [2, 2, 2], to: [2, 2, 2], radiusMm: 1, value: 3 });
  assert.deepEqual(labelled(volume, 3).sort(), ['1,2,2', '2,1,2', '2,2,1', '2,2,2', '2,2,3', '2,3,2', '3,2,2']);
});

test('a disc stays in its plane, whichever axis runs through it', () => {
  for (const axis of [0, 1, 2]) {
    const volume = new LabelVolume(isotropic(5));
    apply(volume, tools.paint, { from: [2, 2, 2], to: [2, 2, 2], radiusMm: 1, value: 1, axis });
    assert.equal(labelled(volume).length, 5);
    assert.ok(labelled(volume).every((voxel) => voxel.split(',')[axis] === '2'));
  }
});

test('a brush is round in mm where voxels are not cubes', () => {
  const volume = new LabelVolume(GRIDS.anisotropic); // 0.5 x 2 x 1 mm
  apply(volume, tools.paint, { from: [3, 3, 4], to: [3, 3, 4], radiusMm: 1, value: 1, axis: 2 });
  assert.deepEqual(labelled(volume), ['1,3,4', '2,3,4', '3,3,4', '4,3,4', '5,3,4']);
  apply(volume, tools.paint, { from: [3, 3, 4], to: [3, 3, 4], radiusMm: 2, value: 2 });
  assert.deepEqual(
    labelled(volume, 2).filter((voxel) => !voxel.includes(',3,')),
    ['3,2,4', '3,4,4'],
  );
});

test('a ball is round in mm in every grid', () => {
  for (const [name, grid] of Object.entries(GRIDS)) {
    const volume = new LabelVolume(grid);
    const centre = [2.75, 3.25, 3.5];
    apply(volume, tools.paint, { from: centre, to: centre, radiusMm: 1.7, value: 1 });
    const G = metric(grid.affine);
    volume.data.forEach((value, index) => {
      const d = volume.voxel(index).map((n, axis) => n - centre[axis]);
      const isIn = inner(G, d, d) <= 1.7 ** 2 || volume.voxel(index).join() === '3,3,4';
      assert.equal(value === 1, isIn, `${name} ${volume.voxel(index)}`);
    });
  }
});

test('a quick stroke leaves no gaps, and a thin brush paints the voxel that it is on', () => {
  const volume = new LabelVolume(isotropic(9));
  apply(volume, tools.paint, { from: [1, 4, 4], to: [7, 4, 4], radiusMm: 0.5, value: 1, axis: 2 });
  assert.deepEqual(
    labelled(volume),
    [1, 2, 3, 4, 5, 6, 7].map((i) => `${i},4,4`),
  );
  const other = new LabelVolume(isotropic(9));
  apply(other, tools.paint, { from: [3.4, 3.4, 3], to: [3.4, 3.4, 3], radiusMm: 0.1, value: 1, axis: 2 });
  assert.deepEqual(labelled(other), ['3,3,3']);
});

test('a brush at the border, or beyond it, paints what is inside', () => {
  const volume = new LabelVolume(isotropic(4));
  apply(volume, tools.paint, { from: [0, 0, 0], to: [0, 0, 0], radiusMm: 1, value: 1 });
  assert.deepEqual(labelled(volume), ['0,0,0', '1,0,0', '0,1,0', '0,0,1']);
  apply(volume, tools.paint, { from: [-3, 9, 2], to: [-3, 9, 2], radiusMm: 1, value: 1 });
  apply(volume, tools.paint, { from: [1, 1, 9], to: [1, 1, 9], radiusMm: 1, value: 1, axis: 2 });
  assert.equal(labelled(volume).length, 4);
});

test('what may be painted over is respected, also by the eraser', () => {
  const stroke = { from: [0, 1, 1], to: [3, 1, 1], radiusMm: 0.4, axis: 2 };
  const three = () => {
    const volume = new LabelVolume(isotropic(4));
    volume.data.set([0, 1, 2, 3], volume.index([0, 1, 1]));
    return volume;
  };
  const line = (volume) => [...volume.data.slice(volume.index([0, 1, 1]), volume.index([0, 1, 1]) + 4)];
  for (const [options, wanted] of [
    [{ value: 5, over: 'all' }, [5, 5, 5, 5]],
    [{ value: 5, over: 'background' }, [5, 1, 2, 3]],
    [{ value: 5, over: 2 }, [0, 1, 5, 3]],
    [{ value: 0, over: 'all' }, [0, 0, 0, 0]],
    [{ value: 0, over: 3 }, [0, 1, 2, 0]],
  ]) {
    const volume = three();
    apply(volume, tools.paint, { ...stroke, ...options });
    assert.deepEqual(line(volume), wanted);
  }
});

test('a polygon fills voxels whose centres are inside', () => {
  const volume = new LabelVolume(isotropic(6));
  const points = [
    [0.5, 0.5, 3],
    [3.5, 0.5, 3],
    [3.5, 2.5, 3],
    [0.5, 2.5, 3],
  ];
  apply(volume, tools.fillPolygon, { points, axis: 2, slice: 3, value: 1 });
  assert.deepEqual(labelled(volume), ['1,1,3', '2,1,3', '3,1,3', '1,2,3', '2,2,3', '3,2,3']);
  const triangle = new LabelVolume(isotropic(6));
  apply(triangle, tools.fillPolygon, {
    points: [
      [2, -0.5, -0.5],
      [2, 3.6, -0.5],
      [2, -0.5, 3.6],
    ],
    axis: 0,
    slice: 2,
    value: 1,
  });
  assert.deepEqual(labelled(triangle), [
    '2,0,0',
    '2,1,0',
    '2,2,0',
    '2,3,0',
    '2,0,1',
    '2,1,1',
    '2,2,1',
    '2,0,2',
    '2,1,2',
    '2,0,3',
  ]);
});

test('a polygon that crosses itself is filled even-odd, one of two points not at all', () => {
  const volume = new LabelVolume(isotropic(6));
  const bow = [
    [0.5, 0.5, 0],
    [4.5, 4.5, 0],
    [4.5, 0.5, 0],
    [0.5, 4.5, 0],
  ];
  apply(volume, tools.fillPolygon, { points: bow, axis: 2, slice: 0, value: 1 });
  assert.ok(!labelled(volume).includes('2,1,0') && !labelled(volume).includes('2,4,0'));
  assert.ok(labelled(volume).includes('1,2,0') && labelled(volume).includes('4,2,0'));
  const line = new LabelVolume(isotropic(6));
  apply(line, tools.fillPolygon, { points: bow.slice(0, 2), axis: 2, slice: 0, value: 1 });
  assert.deepEqual(labelled(line), []);
});

test('growing and shrinking go by faces and respect other labels', () => {
  const volume = new LabelVolume(isotropic(5));
  volume.data[volume.index([2, 2, 2])] = 1;
  volume.data[volume.index([3, 2, 2])] = 2;
  apply(volume, tools.grow, { value: 1 });
  assert.equal(labelled(volume).length, 6);
  assert.equal(volume.at([3, 2, 2]), 2);
  apply(volume, tools.shrink, { value: 1 });
  assert.deepEqual(labelled(volume), []);
  const full = new LabelVolume(isotropic(3));
  full.data.fill(1);
  apply(full, tools.shrink, { value: 1 });
  assert.equal(labelled(full).length, 27, 'a label that the crop cuts keeps its cut face');
});

test('the largest piece stays, and pieces that touch at a corner are one', () => {
  const volume = new LabelVolume(isotropic(6));
  box(volume, [0, 0, 0], [1, 1, 1], 1);
  volume.data[volume.index([2, 2, 2])] = 1;
  box(volume, [5, 4, 5], [5, 5, 5], 1);
  volume.data[volume.index([5, 0, 0])] = 2;
  assert.equal(apply(volume, tools.keepLargest, { value: 1 }), 1);
  assert.equal(labelled(volume).length, 9);
  assert.equal(volume.at([5, 0, 0]), 2);
  assert.equal(apply(volume, tools.keepLargest, { value: null }), 1);
  assert.equal(volume.at([5, 0, 0]), 0);
});

test('a slice takes the shape of another', () => {
  const volume = new LabelVolume(isotropic(5));
  box(volume, [1, 2, 1], [2, 2, 2], 1);
  volume.data[volume.index([4, 3, 4])] = 1;
  volume.data[volume.index([1, 3, 1])] = 2;
  apply(volume, tools.copySlice, { axis: 1, slice: 3, from: 2, value: 1, over: 'background' });
  assert.deepEqual(
    labelled(volume).filter((voxel) => voxel.includes(',3,')),
    ['2,3,1', '1,3,2', '2,3,2'],
  );
  assert.equal(volume.at([1, 3, 1]), 2);
});

test('distances to a border are in mm, half a voxel inside it', () => {
  const volume = new LabelVolume({
    shape: [7, 3, 1],
    affine: [
      [2, 0, 0, 0],
      [0, 3, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ],
  });
  box(volume, [2, 0, 0], [4, 2, 0], 1);
  const distances = tools.signedDistance(new tools.Plane(volume, 2), 0, 1);
  assert.deepEqual([...distances].slice(7, 14), [-3, -1, 1, 3, 1, -1, -3]);
  assert.equal(tools.signedDistance(new tools.Plane(volume, 2), 0, 4), null);
});

test('distances are exact in two dimensions and anisotropic', () => {
  const grid = {
    shape: [9, 8, 1],
    affine: [
      [0.7, 0, 0, 0],
      [0, 1.9, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ],
  };
  const volume = new LabelVolume(grid);
  const inside = [
    [1, 1],
    [1, 2],
    [6, 6],
    [7, 6],
    [4, 3],
  ];
  for (const [u, v] of inside) volume.data[volume.index([u, v, 0])] = 1;
  const found = tools.signedDistance(new tools.Plane(volume, 2), 0, 1);
  for (let v = 0; v < 8; v++) {
    for (let u = 0; u < 9; u++) {
      if (volume.at([u, v, 0])) continue;
      const wanted = 0.35 - Math.min(...inside.map(([p, q]) => Math.hypot((u - p) * 0.7, (v - q) * 1.9)));
      assert.ok(Math.abs(found[u + 9 * v] - wanted) < 1e-9, `${u}, ${v}`);
    }
  }
});

test('between two edited slices the label goes over evenly', () => {
  const volume = new LabelVolume(isotropic(11));
  box(volume, [5, 5, 2], [5, 5, 2], 1); // one voxel at slice 2
  box(volume, [1, 1, 6], [9, 9, 6], 1); // 9 x 9 at slice 6
  box(volume, [0, 0, 4], [0, 0, 4], 1); // a prediction's voxel between them
  apply(volume, tools.interpolateSlices, { axis: 2, slices: [2, 6], value: 1 });
  const width = (k) => labelled(volume).filter((voxel) => voxel.endsWith(`,5,${k}`)).length;
  // Along the middle row: distances 0.5 - |x| at slice 2 and 4.5 - |x| at slice 6; slice 4 has 2.5 - |x| >= 0: 5 voxels
  assert.deepEqual([2, 3, 4, 5, 6].map(width), [1, 3, 5, 7, 9]);
  assert.equal(volume.at([0, 0, 4]), 0);
});

test('only gaps between edited slices are filled, and labels that one end lacks are left', () => {
  const volume = new LabelVolume(isotropic(9));
  for (const slice of [1, 3, 7]) box(volume, [3, 3, slice], [5, 5, slice], 1);
  box(volume, [3, 3, 7], [3, 3, 7], 2);
  box(volume, [8, 8, 5], [8, 8, 5], 2);
  apply(volume, tools.interpolateSlices, { axis: 2, slices: [3, 7], value: 2 });
  assert.deepEqual(labelled(volume, 2), ['8,8,5', '3,3,7']);
  apply(volume, tools.interpolateSlices, { axis: 2, slices: [1, 3], value: 1 });
  assert.equal(labelled(volume).filter((voxel) => voxel.endsWith(',2')).length, 9);
  assert.equal(labelled(volume).filter((voxel) => voxel.endsWith(',5')).length, 0);
  apply(volume, tools.interpolateSlices, { axis: 2, slices: [3], value: 1 });
  assert.equal(labelled(volume).filter((voxel) => voxel.endsWith(',5')).length, 0);
});
