import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as geometry from '../../../bidsapp/editor/static/geometry.js';
import { GRIDS } from './grids.mjs';

const near = (found, wanted) =>
  found.forEach((value, n) => assert.ok(Math.abs(value - wanted[n]) < 1e-9, `${found} is not ${wanted}`));

test('a voxel lies where the affine says', () => {
  near(geometry.voxelToMm(GRIDS.LAS.affine, [2, 3, 4]), [2.4, -3.1, -3.8]);
  near(geometry.voxelToMm(GRIDS.PIR.affine, [1, 2, 3]), [0, 3, 3]);
  near(geometry.voxelToMm(GRIDS.oblique.affine, [0, 2, 1]), [10, 20 + 1.6 - 0.72, 30 + 1.2 + 0.96]);
});

test('a place is found again in every grid', () => {
  for (const { affine } of Object.values(GRIDS)) {
    near(geometry.mmToVoxel(affine, geometry.voxelToMm(affine, [1.25, 2.5, 5])), [1.25, 2.5, 5]);
  }
});

test('an affine without an inverse is an error, not a place', () => {
  assert.throws(
    () =>
      geometry.mmToVoxel(
        [
          [0, 0, 0, 0],
          [0, 1, 0, 0],
          [0, 0, 1, 0],
        ],
        [1, 2, 3],
      ),
    RangeError,
  );
});

test('spacing and lengths are in mm', () => {
  near(geometry.spacingMm(GRIDS.anisotropic.affine), [0.5, 2, 1]);
  near(geometry.spacingMm(GRIDS.oblique.affine), [1, 1, 1.2]);
  const G = geometry.metric(GRIDS.oblique.affine);
  near([geometry.inner(G, [1, 1, 1], [1, 1, 1])], [3.44]);
  near(geometry.ballReach(GRIDS.anisotropic.affine, 2), [4, 1, 2]);
});

test('each axis order is told from the affine', () => {
  const wanted = {
    RAS: [1, 2, 3],
    LAS: [-1, 2, 3],
    LPS: [-1, -2, 3],
    PIR: [3, -1, -2],
    anisotropic: [1, 2, 3],
    oblique: [1, 2, 3],
  };
  for (const [name, permutation] of Object.entries(wanted)) {
    assert.deepEqual(geometry.rasPermutation(GRIDS[name].affine), permutation, name);
  }
});

test('voxels of a LAS and a PIR grid are found in RAS order', () => {
  const las = new geometry.RasOrder([6, 7, 8], [-1, 2, 3]);
  assert.equal(las.index([0, 0, 0]), 5);
  assert.equal(las.index([5, 1, 2]), 6 + 2 * 42);
  const pir = new geometry.RasOrder([7, 8, 6], [3, -1, -2]);
  assert.deepEqual(pir.shape, [6, 7, 8]);
  assert.deepEqual(pir.fromGrid([1, 2, 3]), [3, 5, 5]);
  assert.equal(pir.index([1, 2, 3]), 3 + 6 * 5 + 42 * 5);
});

test('RAS order is a renaming of voxels that keeps places in the head', () => {
  for (const [name, { shape, affine }] of Object.entries(GRIDS)) {
    const order = new geometry.RasOrder(shape, geometry.rasPermutation(affine));
    const met = new Set();
    for (let k = 0; k < shape[2]; k++) {
      for (let j = 0; j < shape[1]; j++) {
        for (let i = 0; i < shape[0]; i++) {
          const ras = order.fromGrid([i, j, k]);
          assert.equal(order.index([i, j, k]), ras[0] + order.shape[0] * (ras[1] + order.shape[1] * ras[2]), name);
          assert.deepEqual(order.toGrid(ras), [i, j, k]);
          met.add(order.index([i, j, k]));
        }
      }
    }
    assert.equal(met.size, shape[0] * shape[1] * shape[2]);
    const one = geometry.voxelToMm(affine, order.toGrid([1, 1, 1]));
    const further = geometry.voxelToMm(affine, order.toGrid([2, 2, 2]));
    assert.ok(further[0] > one[0], `${name}: RAS order runs to the right`);
  }
});

test('grids are the same when their corners are', () => {
  const moved = {
    ...GRIDS.LAS,
    affine: GRIDS.LAS.affine.map((row, n) => (n === 0 ? [...row.slice(0, 3), row[3] + 0.02] : row)),
  };
  assert.ok(geometry.sameGrid(GRIDS.LAS, moved));
  assert.ok(!geometry.sameGrid(GRIDS.LAS, GRIDS.RAS));
  assert.ok(!geometry.sameGrid(GRIDS.RAS, GRIDS.PIR));
});
