import assert from 'node:assert/strict';
import { test } from 'node:test';

import { History } from '../../../bidsapp/editor/static/history.js';
import { paint } from '../../../bidsapp/editor/static/tools.js';
import { LabelVolume, changedVoxels, toBytes } from '../../../bidsapp/editor/static/volume.js';
import { GRIDS } from './grids.mjs';

function stroke(history, options, facts = {}) {
  const edit = history.begin(facts);
  paint(edit, options);
  return history.commit(edit);
}

test('every step is undone and done again, however many', () => {
  const volume = new LabelVolume(GRIDS.oblique);
  const history = new History(volume);
  const states = [volume.data.slice()];
  for (let n = 0; n < 60; n++) {
    const at = [n % 6, (n * 3) % 7, (n * 5) % 8];
    if (stroke(history, { from: at, to: at, radiusMm: 1 + (n % 3), value: n % 4 })) states.push(volume.data.slice());
  }
  assert.ok(states.length > 40);
  for (let n = states.length - 2; n >= 0; n--) {
    assert.ok(history.undo());
    assert.deepEqual(volume.data, states[n]);
  }
  assert.equal(history.undo(), null);
  for (let n = 1; n < states.length; n++) {
    assert.ok(history.redo());
    assert.deepEqual(volume.data, states[n]);
  }
  assert.equal(history.redo(), null);
});

test('a new step after an undo forgets what was undone', () => {
  const history = new History(new LabelVolume(GRIDS.RAS));
  stroke(history, { from: [1, 1, 1], to: [1, 1, 1], radiusMm: 0.5, value: 1 });
  history.undo();
  stroke(history, { from: [2, 2, 2], to: [2, 2, 2], radiusMm: 0.5, value: 2 });
  assert.equal(history.redo(), null);
  assert.equal(history.volume.at([1, 1, 1]), 0);
});

test('a step that changes nothing, or takes its change back, is none', () => {
  const volume = new LabelVolume(GRIDS.RAS);
  const history = new History(volume);
  assert.equal(stroke(history, { from: [1, 1, 1], to: [1, 1, 1], radiusMm: 2, value: 0 }), false);
  const edit = history.begin();
  edit.set(5, 3);
  edit.set(5, 0);
  assert.equal(history.commit(edit), false);
  const other = history.begin();
  other.set(7, 3);
  history.abandon(other);
  assert.equal(volume.data[7], 0);
  assert.equal(history.undo(), null);
});

test('a step keeps runs, not voxels, and tells every run that it changes', () => {
  const volume = new LabelVolume(GRIDS.RAS);
  volume.data.fill(2, 10, 14);
  const told = [];
  const history = new History(volume, (start, length) => told.push([start, length]));
  const edit = history.begin();
  for (let index = 19; index >= 6; index--) edit.set(index, 4);
  history.commit(edit);
  assert.deepEqual(
    told.map(([start]) => start),
    [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6],
  );
  const { diff } = history.done[0];
  assert.deepEqual([...diff.runs], [6, 4, 0, 4, 10, 4, 2, 4, 14, 6, 0, 4]);
  assert.equal(diff.voxels, 14);
  told.length = 0;
  history.undo();
  assert.deepEqual(told, [
    [6, 4],
    [10, 4],
    [14, 6],
  ]);
  assert.deepEqual([...volume.data.slice(5, 21)], [0, 0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0]);
});

test('edited slices are those of one axis and label that still stand', () => {
  const history = new History(new LabelVolume(GRIDS.LPS));
  const at = (k) => ({ from: [2, 2, k], to: [2, 2, k], radiusMm: 1, value: 1, axis: 2 });
  stroke(history, at(5), { axis: 2, slice: 5, value: 1 });
  stroke(history, at(1), { axis: 2, slice: 1, value: 1 });
  stroke(history, { ...at(3), axis: 1 }, { axis: 1, slice: 2, value: 1 });
  stroke(history, { ...at(6), value: 2 }, { axis: 2, slice: 6, value: 2 });
  stroke(history, { ...at(7), axis: null }, { value: 1 });
  assert.deepEqual(history.editedSlices(2, 1), [1, 5]);
  for (let n = 0; n < 4; n++) history.undo();
  assert.deepEqual(history.editedSlices(2, 1), [5]);
});

test('changed voxels count for the label that lost and for the one that gained them', () => {
  const before = new LabelVolume({ shape: [2, 2, 1], affine: GRIDS.RAS.affine }, Uint16Array.of(1, 1, 0, 2));
  const after = new LabelVolume(before, Uint16Array.of(1, 2, 300, 0));
  assert.deepEqual(changedVoxels(before, after), { 1: 1, 2: 2, 300: 1 });
});

test('a draft is little-endian, first axis fastest', () => {
  const volume = new LabelVolume({ shape: [2, 1, 2], affine: GRIDS.RAS.affine });
  volume.data[volume.index([1, 0, 0])] = 0x0102;
  volume.data[volume.index([0, 0, 1])] = 3;
  assert.deepEqual([...toBytes(volume)], [0, 0, 2, 1, 3, 0, 0, 0]);
  assert.throws(
    () => new LabelVolume({ shape: [2, 2, 2], affine: [] }, new Uint16Array(7)),
    /does not fill a grid of 2 x 2 x 2/,
  );
});

test('the box around a label, and the values that are met', () => {
  const volume = new LabelVolume(GRIDS.PIR);
  assert.equal(volume.bounds(), null);
  volume.data[volume.index([1, 7, 2])] = 300;
  volume.data[volume.index([3, 2, 4])] = 2;
  assert.deepEqual(volume.bounds(), [
    [1, 2, 2],
    [3, 7, 4],
  ]);
  assert.deepEqual(volume.bounds(2), [
    [3, 2, 4],
    [3, 2, 4],
  ]);
  assert.deepEqual(volume.values(), [2, 300]);
});
