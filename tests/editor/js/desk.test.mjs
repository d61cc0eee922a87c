import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Api } from '../../../bidsapp/editor/static/api.js';
import { Desk } from '../../../bidsapp/editor/static/desk.js';
import { gunzip } from '../../../bidsapp/editor/static/nifti.js';
import { GRIDS } from './grids.mjs';

globalThis.document = { hidden: true };
const every = globalThis.setInterval;
globalThis.setInterval = (...words) => every(...words).unref(); // the desk's clock must not keep the tests running

/** What the server does with drafts, saves and decisions, in memory; `during[what]` runs while it has not answered. */
class MemoryApi {
  constructor() {
    Object.assign(this, { saved: null, draft: null, versions: 0, during: {}, decided: [], held: new Set() });
  }

  async #meanwhile(what) {
    const act = this.during[what];
    delete this.during[what];
    await act?.();
  }

  async hold(id) {
    await this.#meanwhile('hold');
    this.held.add(id);
  }

  async release(id) {
    await this.#meanwhile('release');
    this.held.delete(id);
  }

  async side(id) {
    return { id, grid: GRIDS.RAS, images: [], labels: [{ value: 1, name: 'A', color: '#ffffff' }], version: this.version };
  }

  async file() {
    throw new Error('no side has a file here');
  }

  get version() {
    return String(this.versions);
  }

  async putDraft(_id, version, bytes) {
    await this.#meanwhile('putDraft');
    if (version !== this.version) throw Object.assign(new Error('an old version'), { status: 409, facts: {} });
    this.draft = painted(new Uint16Array(await gunzip(bytes)));
  }

  async deleteDraft() {
    await this.#meanwhile('deleteDraft');
    this.draft = null;
  }

  async save(_id, facts) {
    this.told = facts.changed;
    [this.saved, this.draft] = [this.draft ?? this.saved, null];
    this.versions += 1;
    const { version } = this;
    await this.#meanwhile('save');
    return { version, findings: [] };
  }

  async decide(id, { version, status }) {
    this.decided.push([id, version, status, this.saved]);
    await this.#meanwhile('decide');
    return { recorded: true, status };
  }
}

const painted = (data) => [...data.keys()].filter((index) => data[index]);
const paint = (desk, index) => desk.edit({}, (edit) => edit.set(index, 1));

async function deskWith(id = 'x') {
  const api = new MemoryApi();
  const desk = new Desk(api, 'Ada');
  await desk.open(id);
  return { api, desk };
}

test('a stroke that ends while a save sends the draft is saved, too', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.putDraft = () => paint(desk, 5);
  await desk.save();
  assert.deepEqual(api.saved, [0, 5]);
  assert.deepEqual(api.told, { A: 2 });
  assert.equal(desk.draft, 'none');
});

test('a stroke that goes on while the side is saved is no part of what was saved', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  await desk.flush();
  const edit = desk.history.begin({});
  edit.set(7, 1);
  await desk.save();
  assert.deepEqual(api.saved, [0]);
  assert.deepEqual(api.told, { A: 1 });
  assert.ok(desk.history.commit(edit));
  desk.touched();
  await desk.flush();
  assert.deepEqual(api.draft, [0, 7]);
  assert.equal(desk.draft, 'saved');
});

test('a stroke that ends while the guards look stays a draft, and is sent after their answer', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.save = async () => {
    paint(desk, 5);
    await desk.flush();
    assert.equal(api.draft, null);
  };
  await desk.save();
  assert.ok(desk.hasDraft);
  assert.equal(desk.findings, null);
  await desk.flush();
  assert.deepEqual([api.saved, api.draft], [[0], [0, 5]]);
});

test('what is painted while the guards look at a side that is being decided is decided on, too', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.save = () => paint(desk, 5);
  await desk.decide('approved', '');
  assert.deepEqual(api.decided, [['x', '2', 'approved', [0, 5]]]);
});

test('a side is left with every stroke sent', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.putDraft = () => {
    paint(desk, 5);
    api.during.putDraft = () => paint(desk, 6);
  };
  await desk.leave();
  assert.deepEqual(api.draft, [0, 5, 6]);
});

test('a side whose strokes cannot be sent is not left', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.putDraft = () => Promise.reject(new Error('no answer'));
  await assert.rejects(desk.open('y'), /no answer/);
  assert.deepEqual([desk.side.id, desk.draft], ['x', 'waiting']);
  await desk.leave();
  assert.deepEqual(api.draft, [0]);
});

test('the answer to a side that was left says nothing about the one that is open', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  api.during.save = () => desk.open('y');
  await assert.rejects(desk.decide('approved', ''), /Another side was opened/);
  assert.deepEqual(api.decided, []);
  assert.deepEqual([desk.side.id, desk.draft, desk.findings], ['y', 'none', null]);
  api.during.decide = () => desk.open('z');
  await desk.decide('rejected', '');
  assert.deepEqual([desk.side.id, desk.side.status], ['z', undefined]);
});

test('a stroke of a side that was left changes nothing in the next', async () => {
  const { desk } = await deskWith();
  const edit = desk.history.begin({});
  edit.set(3, 1);
  await desk.open('y');
  paint(desk, 3);
  assert.equal(desk.history.commit(edit), false);
  assert.ok(desk.undo());
  assert.equal(desk.undo(), false);
});

test('a side that is left while it is being kept is let go of', async () => {
  const { api, desk } = await deskWith();
  api.during.hold = () => desk.leave();
  await desk.renew();
  assert.deepEqual([...api.held], []);
  await desk.renew(); // nothing is open
});

test('strokes that could not be thrown away are still there', async () => {
  const { api, desk } = await deskWith();
  paint(desk, 0);
  await desk.flush();
  api.during.deleteDraft = () => Promise.reject(new Error('no answer'));
  await assert.rejects(desk.discard(), /no answer/);
  assert.ok(desk.hasDraft);
  await desk.leave();
  assert.deepEqual(api.draft, [0]);
});

test('every request carries the token', async () => {
  const seen = [];
  globalThis.fetch = async (path, { method, headers }) => {
    seen.push([method, path, headers['X-HippoTune-Token']]);
    return new Response('{}');
  };
  const api = new Api('secret', 'tab');
  await api.queue();
  await api.side('x');
  await api.file('/api/sides/x/images/T1w');
  await api.release('x');
  assert.equal(seen.length, 4);
  for (const [method, path, token] of seen) assert.equal(token, 'secret', `${method} ${path}`);
});
