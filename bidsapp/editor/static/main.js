// The page: one desk, one viewer, one queue, and every action that a key or a button can ask for.

import { actionsOf } from './actions.js';
import { Api } from './api.js';
import { Desk } from './desk.js';
import { mmToVoxel, voxelToMm } from './geometry.js';
import { actionOf, keysAsMarkdown } from './keys.js';
import { readLabels, gunzip } from './nifti.js';
import { Painting } from './painting.js';
import { Palette } from './palette.js';
import { Panel, element } from './panel.js';
import { FILTERS, Queue, sideWords } from './queue.js';
import { Surface } from './surface.js';
import { PLANES, Viewer } from './viewer.js';
import { LabelVolume } from './volume.js';

const REMEMBERED = ['view', 'opacity', 'outline', 'radiusMm', 'goOn'];
const QUEUE_AGAIN_MS = 60000;
const LOOK_AHEAD_AFTER_MS = 3000;

class App {
  constructor() {
    this.api = new Api(knownToken(), tabName());
    this.state = {
      tool: 'navigate',
      erasing: false,
      label: 1,
      over: 'all',
      radiusMm: 0.9,
      opacity: 0.5,
      outline: false,
      hidden: false,
      view: 'four',
      before: false,
      otherSide: false,
      image: 0,
      finding: -1,
      goOn: true,
      ...remembered(),
    };
    this.desk = new Desk(this.api, localStorage.getItem('hippotune-rater') ?? '');
    this.viewer = new Viewer(element('picture'));
    this.surface = new Surface(element('surface'), this.viewer);
    this.painting = new Painting({
      desk: this.desk,
      viewer: this.viewer,
      state: this.state,
      say: (...words) => this.panel.say(...words),
    });
    this.panel = new Panel((action, detail) => this.run(action, detail));
    this.queue = new Queue(element('queue'), (id) => this.open(id));
    this.visited = [];
    this.comments = new Map(); // that are written and not sent yet
    this.actions = actionsOf(this);
    this.#wire();
  }

  #wire() {
    const { desk, viewer, surface, painting } = this;
    desk.onChanged = (start, length) => viewer.changed(start, length);
    desk.onState = () => this.show();
    desk.onFreed = () => this.#whenFree().then(() => this.loadAgain());
    desk.onMended = () => this.panel.say('The server has your strokes again.', 'good');
    desk.onTrouble = (error) => this.panel.say(error.message, 'bad');
    surface.onStroke = (stroke) => {
      if (stroke.phase === 'begin') this.showCorrection();
      painting.onStroke(stroke);
    };
    surface.onPolygon = (polygon) => {
      this.showCorrection();
      painting.onPolygon(polygon);
    };
    surface.onPoint = (voxel, tile) => this.goTo(voxel, tile);
    surface.onPlane = (axis) => viewer.setPlane(axis);
    const drawn = viewer.onDrawn;
    viewer.onDrawn = () => {
      drawn();
      this.#showWhere();
    };
    document.addEventListener('keydown', (event) => this.#key(event));
    for (const kind of ['pointermove', 'keydown', 'wheel'])
      document.addEventListener(kind, () => desk.awake(), { passive: true });
    element('rater').addEventListener('click', () => this.askRater());
    element('comment').addEventListener('input', ({ target }) => this.comments.set(desk.side?.id, target.value));
    element('go-on').checked = this.state.goOn;
    element('go-on').addEventListener('change', ({ target }) => {
      this.state.goOn = target.checked;
      this.show();
    });
    element('toggle-queue').addEventListener('click', ({ currentTarget }) => {
      const hidden = document.body.classList.toggle('no-queue');
      currentTarget.setAttribute('aria-expanded', String(!hidden));
    });
    window.addEventListener('hashchange', () => this.#whenFree().then(() => this.#openHash()));
    window.addEventListener('pagehide', () => {
      if (desk.side && desk.mayEdit) this.api.release(desk.side.id).catch(() => {});
    });
    window.addEventListener('pageshow', ({ persisted }) => persisted && desk.side && desk.renew());
    window.addEventListener('beforeunload', (event) => {
      if (desk.draft === 'waiting' || desk.draft === 'sending') event.preventDefault();
    });
    document.addEventListener('visibilitychange', () =>
      document.hidden ? desk.flush().catch(() => {}) : this.refreshQueue(),
    );
    setInterval(() => !document.hidden && this.refreshQueue(), QUEUE_AGAIN_MS);
  }

  async start() {
    if (!document.createElement('canvas').getContext('webgl2'))
      throw new Error(
        'This browser has no WebGL 2, which the picture needs: another browser, or its hardware acceleration, may help.',
      );
    await this.viewer.start();
    this.viewer.setLook(this.state);
    this.viewer.setView(this.state.view);
    if (!this.desk.rater) await this.askRater();
    this.queue.setRater(this.desk.rater);
    element('rater').textContent = this.desk.rater;
    await this.refreshQueue();
    if (!location.hash) {
      const [first] = this.queue.shown;
      if (first) await this.open(first.id);
      else this.panel.say('Nothing is open: choose a side from the list.');
    } else await this.#openHash();
  }

  async askRater() {
    const dialog = element('who');
    element('who-name').value = this.desk.rater;
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
    const name = element('who-name').value.trim();
    if (name) {
      this.desk.rater = name;
      localStorage.setItem('hippotune-rater', name);
    }
    element('rater').textContent = this.desk.rater || 'name?';
    this.queue.setRater(this.desk.rater);
    if (!this.desk.rater) await this.askRater();
  }

  async refreshQueue() {
    await this.attempt(async () => this.queue.setSides((await this.api.queue()).sides));
  }

  #openHash() {
    const id = idInAddress();
    if (id && id !== this.desk.side?.id) return this.open(id);
    return null;
  }

  /** Put a side on the desk. */
  open(id) {
    return this.exclusively(() => this.#open(id));
  }

  async #open(id) {
    this.lastId = id;
    document.body.classList.add('busy');
    delete document.body.dataset.side;
    this.panel.say('Loading …');
    const before = this.desk.side?.id;
    await this.attempt(async () => {
      await this.desk.open(id);
      if (before && before !== id) this.visited.push(before);
      await this.#shown();
    });
    document.body.classList.remove('busy');
  }

  /** The side that is open as the server has it now. */
  loadAgain() {
    return this.exclusively(() => this.#loadAgain());
  }

  #loadAgain() {
    delete document.body.dataset.side;
    return this.attempt(() => this.desk.reload().then(() => this.#shown()));
  }

  /** Show what was put on the desk; what cannot be shown does not stay there. */
  async #shown() {
    try {
      await this.#showSide();
    } catch (error) {
      await this.desk.leave().catch(() => {});
      this.panel.show(this.desk, this.state);
      throw error;
    }
  }

  async #showSide() {
    const { desk, viewer, state } = this;
    const { side } = desk;
    this.surface.giveUp();
    this.surface.marks = [];
    Object.assign(state, { before: false, image: 0, finding: -1, over: 'all', hidden: false });
    if (!desk.palette.labels.some(({ value }) => value === state.label))
      state.label = desk.palette.labels[0]?.value ?? 1;
    await viewer.load(desk.images, side.grid);
    viewer.show(desk.volume, desk.palette);
    viewer.setLook(state);
    const box = desk.volume.bounds();
    if (box) viewer.crosshair = box[0].map((n, axis) => (n + box[1][axis]) / 2);
    element('comment').value = this.comments.get(side.id) ?? side.comment ?? '';
    if (idInAddress() !== side.id) history.replaceState(null, '', `#${side.id}`);
    document.title = `${sideWords(side)} - HippoTune`;
    this.queue.setCurrent(side.id);
    this.panel.say('');
    this.panel.notice(null);
    if (desk.held.by !== null) this.#tellHolder();
    else if (desk.restored) this.#tellRestored();
    this.setTool(state.tool);
    this.show();
    if (state.otherSide) await this.attempt(() => this.showOtherSide(true));
    document.body.dataset.side = side.id;
    clearTimeout(this.lookingAhead);
    this.lookingAhead = setTimeout(() => {
      const next = this.queue.neighbour(side.id, 1);
      if (next) desk.lookAhead(next).catch(() => {}); // what is missing is fetched, and said, when it is opened
    }, LOOK_AHEAD_AFTER_MS);
  }

  #tellHolder() {
    const { by, since } = this.desk.held;
    const when = since
      ? ` since ${new Date(since).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}`
      : '';
    this.panel.notice(
      `${by} has this side open${when}, perhaps in another tab. You can look at it; it becomes yours when it is closed there.`,
      {
        'Try again': () => this.desk.renew().then(() => this.desk.mayEdit || this.#tellHolder()),
        'Next side': () => this.run('nextSide'),
      },
    );
  }

  #tellRestored() {
    const outdated = this.desk.side.draft_outdated
      ? ' They began from an earlier version of this side: look closely.'
      : '';
    this.panel.notice(`Your unsaved strokes are back.${outdated}`, {
      'Go on with them': () => {},
      'Throw them away': () => this.run('discard', 'sure'),
    });
  }

  /** Do something that may fail; says why, and what can be done, where it does. Returns whether it went well. */
  async attempt(what) {
    try {
      await what();
      return true;
    } catch (error) {
      if (error.status === undefined) console.error(error);
      this.panel.say(error.message, 'bad');
      if (error.status === 409 && this.desk.side) this.#tellConflict(error);
      return false;
    }
  }

  #tellConflict(error) {
    if (error.facts.holder)
      this.desk.held = { by: error.facts.holder.rater || 'another tab', since: error.facts.holder.since };
    this.panel.notice(error.message, { 'Load it again': () => this.loadAgain() });
    this.show();
  }

  // Showing

  show() {
    if (!this.desk.side) return;
    const { desk, state } = this;
    this.panel.show(desk, state);
    this.surface.marks = (desk.findings ?? []).flatMap(({ place }, n) =>
      place ? [{ voxel: place, chosen: n === state.finding }] : [],
    );
    this.surface.color = state.erasing ? '#ffffff' : desk.palette.color(state.label);
    Object.assign(this.surface, { erasing: state.erasing, radiusMm: state.radiusMm });
    const shown = [state.before ? 'prediction' : '', state.image ? desk.images[state.image].modality : '']
      .filter(Boolean)
      .join(', ');
    element('shown').textContent = shown;
    element('shown').hidden = !shown;
    this.surface.draw();
    localStorage.setItem(
      'hippotune-look',
      JSON.stringify(Object.fromEntries(REMEMBERED.map((name) => [name, state[name]]))),
    );
  }

  #showWhere() {
    const { viewer, desk } = this;
    if (!viewer.isLoaded || !desk.side) return;
    const voxel = viewer.crosshair;
    const mm = voxelToMm(desk.side.grid.affine, voxel);
    const directions = ['LR', 'PA', 'IS'].map(
      ([minus, plus], axis) => `${Math.abs(mm[axis]).toFixed(1)} ${mm[axis] < 0 ? minus : plus}`,
    );
    const label = desk.palette.name(viewer.volume.at(voxel));
    this.panel.showWhere(
      `${PLANES[viewer.plane]} slice ${viewer.rasSlice(viewer.plane) + 1} · voxel ${voxel.join(', ')} · ${directions.join(', ')} mm · ${label}`,
    );
  }

  /** Move the crosshair to a voxel; within the plane of a tile its own slice stays. */
  goTo(voxel, tile = null) {
    const place = [...voxel];
    if (tile) {
      const { axis, slice } = this.viewer.gridSlice(tile.axis);
      place[axis] = slice;
    }
    this.viewer.crosshair = place;
    this.followOther();
  }

  setTool(tool) {
    this.state.tool = tool;
    this.surface.setTool(this.desk.mayEdit ? tool : 'navigate');
    this.show();
  }

  showCorrection() {
    if (this.state.before) this.showBefore(false);
  }

  showBefore(before) {
    const { desk, viewer, state } = this;
    if (!desk.prediction) return;
    state.before = before;
    viewer.show(before ? desk.prediction : desk.volume, desk.palette);
    this.show();
  }

  // The other side

  async showOtherSide(on) {
    const { state, desk } = this;
    state.otherSide = on && Boolean(desk.side.other);
    element('that-side').hidden = !state.otherSide;
    this.show();
    if (!state.otherSide) return;
    const { images, labels } = desk.side.other;
    const [image, read] = await Promise.all([
      this.api.file(images[0].url),
      labels ? this.api.file(labels).then(gunzip).then(readLabels) : null,
    ]);
    if (!this.other) {
      this.other = new Viewer(element('other-picture'));
      await this.other.start();
      this.otherSurface = new Surface(element('other-surface'), this.other);
      this.otherSurface.onPoint = (voxel) => {
        this.other.crosshair = voxel;
      };
      this.otherSurface.onPlane = (axis) => this.other.setPlane(axis);
    }
    await this.other.load([{ modality: images[0].modality, buffer: image }]);
    const volume = new LabelVolume(this.other.grid, read?.data);
    this.other.show(volume, new Palette(desk.side.labels, volume.values()));
    this.other.setLook(state);
    this.other.setView(state.view === 'four' ? 'three' : state.view);
    element('other-where').textContent = `${desk.side.hemi === 'L' ? 'Right' : 'Left'} side, to compare`;
    this.followOther();
  }

  /** The other side shows the mirror image of the place under the crosshair. */
  followOther() {
    if (!this.other || !this.state.otherSide || !this.desk.side) return;
    const [x, y, z] = voxelToMm(this.desk.side.grid.affine, this.viewer.crosshair);
    this.other.crosshair = mmToVoxel(this.other.grid.affine, [-x, y, z]);
  }

  // Deciding

  /** One thing at a time that changes what is on the desk, or sends it; no key and no pointer does anything meanwhile. */
  async exclusively(what) {
    if (this.working) return undefined;
    this.surface.giveUp();
    this.surface.asleep = true;
    this.working = what();
    try {
      return await this.working;
    } finally {
      this.working = null;
      this.surface.asleep = false;
    }
  }

  async #whenFree() {
    while (this.working) await this.working.catch(() => {});
  }

  /** Throw away what was painted since the last save. */
  async discard() {
    const { side } = document.body.dataset;
    delete document.body.dataset.side;
    if (await this.attempt(() => this.desk.discard())) await this.#loadAgain();
    else document.body.dataset.side = side;
  }

  async save() {
    const done = await this.attempt(async () => {
      this.panel.say('Saving, and the guards look at it …');
      await this.desk.save();
      const { blocking, findings } = this.desk;
      this.panel.say(
        blocking.length
          ? 'Saved. The guards found something.'
          : `Saved.${findings?.length === 0 ? ' The guards find nothing.' : ''}`,
        blocking.length ? 'bad' : 'good',
      );
      this.#showFirstFinding();
    });
    if (done) this.refreshQueue();
    return done;
  }

  async decide(status) {
    const { desk, panel } = this;
    let answer = null;
    await this.attempt(async () => {
      panel.say(status === 'approved' ? 'Approving: the guards look at it …' : 'Recording …');
      answer = await desk.decide(status, element('comment').value.trim());
    });
    if (!answer) return;
    if (answer.recorded) this.comments.delete(desk.side.id);
    await this.refreshQueue();
    const words = `${sideWords(desk.side)}: ${answer.recorded ? [answer.message, ...(answer.notes ?? [])].join('; ') : answer.message || 'not recorded'}`;
    panel.say(words, answer.recorded ? 'good' : 'bad');
    if (!answer.recorded) this.#showFirstFinding();
    else if (this.state.goOn && (await this.step(1))) panel.say(words, 'good');
  }

  /** Open the next side of the queue, or (-1) the one that was open before; false: there is none. */
  async step(direction) {
    const id =
      direction > 0
        ? this.queue.neighbour(this.lastId, 1)
        : (this.visited.pop() ?? this.queue.neighbour(this.lastId, -1));
    if (!id) {
      this.panel.say(`There is no other side under “${FILTERS[this.queue.filter].words}”.`);
      return false;
    }
    await this.#open(id);
    if (direction < 0) this.visited.pop();
    return true;
  }

  #showFirstFinding() {
    const { findings, accepted } = this.desk;
    const first = (findings ?? []).findIndex(({ guard, blocks }) => blocks !== false && !accepted.has(guard));
    if (first >= 0) this.showFinding(first);
    else this.show();
  }

  /** Choose a finding and jump to its place. */
  showFinding(n) {
    const finding = this.desk.findings?.[n];
    if (!finding) return;
    this.state.finding = n;
    if (finding.place) this.goTo(finding.place);
    this.show();
    document.querySelector('#findings .chosen')?.scrollIntoView({ block: 'nearest' });
  }

  async nextFinding() {
    const { desk } = this;
    if (desk.findings === null && !desk.hasDraft) {
      await this.attempt(async () => {
        const { side } = desk;
        const { findings } = await this.api.findings(side.id);
        if (desk.side === side && !desk.hasDraft) desk.findings = findings;
      });
    }
    const count = desk.findings?.length ?? 0;
    if (count) this.showFinding((this.state.finding + 1) % count);
    else this.panel.say(desk.hasDraft ? 'Save first: then the guards look at it.' : 'The guards find nothing.');
    this.show();
  }

  // Keys

  run(action, detail) {
    if (this.working) return;
    const act = this.actions[action];
    if (act && (this.desk.side || ['help', 'nextSide'].includes(action))) act(detail);
  }

  #key(event) {
    if (document.querySelector('dialog[open]')) return;
    const isText = event.target.matches?.('input:not([type=range]):not([type=checkbox]), textarea, select');
    if (event.key === 'Escape') {
      if (isText) event.target.blur();
      else this.surface.giveUp();
      return;
    }
    if (isText && !(event.ctrlKey && event.key === 's')) return;
    if (event.key === 'Enter' && this.surface.closePolygon()) {
      event.preventDefault();
      return;
    }
    const action = actionOf(event);
    if (!action || (event.target.matches?.('input[type=range]') && event.key.startsWith('Arrow'))) return;
    event.preventDefault();
    this.run(action, event.key);
  }
}

/** A name for this tab; `crypto.randomUUID` is missing where a server is reached through another machine's name. */
/** The token of the printed address. It is kept for this address and port, so that links and reloads find it. */
function knownToken() {
  const given = document.querySelector('meta[name="hippotune-token"]').content;
  if (given) {
    localStorage.setItem('hippotune-token', given);
    history.replaceState(null, '', `/${location.hash}`);
  }
  return given || localStorage.getItem('hippotune-token') || '';
}

function tabName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The id of a side after the # of the address; '' where there is none. */
function idInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

function remembered() {
  try {
    const read = JSON.parse(localStorage.getItem('hippotune-look') ?? '{}');
    return Object.fromEntries(REMEMBERED.filter((name) => name in read).map((name) => [name, read[name]]));
  } catch {
    return {};
  }
}

const app = new App();
globalThis.hippotune = { app, keysAsMarkdown }; // for the browser's console and for tests
app.attempt(() => app.start());
