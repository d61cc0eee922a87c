// One side on the desk: its label volume, who holds it, its draft on the server, saving and deciding. No page, no picture.

import { sameGrid } from './geometry.js';
import { History } from './history.js';
import { gunzip, gzip, readLabels } from './nifti.js';
import { Palette } from './palette.js';
import { LabelVolume, changedVoxels, toBytes } from './volume.js';

const DRAFT_AFTER_MS = 600;
const RENEW_MS = 20000;
const IDLE_MS = 60000;

/**
 * Events (set from outside): onChanged(start, length) voxels; onState() anything that the page shows;
 * onFreed() another tab let go of the side; onTrouble(error) what went wrong beside an action that the page waits for;
 * onMended() strokes that could not be sent have been sent.
 */
export class Desk {
  constructor(api, rater) {
    this.api = api;
    this.rater = rater;
    this.side = null;
    this.wanted = null; // id of the side that is open or being opened
    this.quiet = 0; // how many saves and decisions are under way: no draft is sent meanwhile
    this.onChanged = this.onState = this.onFreed = this.onTrouble = this.onMended = () => {};
    this.#clock();
  }

  /** Fetch a side with everything that the page shows of it. Lets go of the one before. */
  async open(id) {
    await this.leave();
    this.wanted = id;
    let held = null;
    try {
      held = await this.#hold(id);
      await this.#fetch(id, held);
    } catch (error) {
      this.wanted = null;
      if (held?.by === null) await this.api.release(id).catch(() => {});
      throw error;
    }
    this.renewal = setInterval(() => this.renew(), RENEW_MS);
    this.onState();
  }

  async #fetch(id, held) {
    const side = await this.api.side(id);
    const grid = side.grid;
    const ahead = this.ahead?.version === side.version ? this.ahead.files : new Map();
    this.ahead = null;
    const file = (url) => ahead.get(url) ?? this.api.file(url);
    const [images, prediction, correction, draft] = await Promise.all([
      Promise.all(side.images.map(async ({ modality, url }) => ({ modality, buffer: await file(url) }))),
      labelsAt(side.prediction, grid, file),
      labelsAt(side.correction, grid, file),
      labelsAt(side.draft, grid, this.api.file.bind(this.api)),
    ]);
    const volume = draft ?? correction?.copy() ?? prediction?.copy() ?? new LabelVolume(grid);
    const values = [volume, prediction, correction].flatMap((one) => one?.values() ?? []);
    Object.assign(this, { side, images, prediction, correction, volume, held, version: side.version });
    this.palette = new Palette(side.labels, values);
    this.told = correction ?? prediction ?? new LabelVolume(grid);
    this.sentVolume = draft?.copy() ?? this.told; // what the server has: its draft, or what a save would find
    this.history = new History(volume, (start, length) => this.onChanged(start, length));
    this.findings = side.findings ?? null;
    this.accepted = new Set(side.accept ?? []);
    this.draft = draft ? 'saved' : 'none';
    this.restored = Boolean(draft);
    this.seconds = 0;
  }

  /** The same side anew, as the server has it now; a draft that is on the way is sent first. */
  async reload() {
    await this.open(this.side.id);
  }

  /** Send what is left to send and let go of the side. */
  async leave() {
    if (!this.side) return;
    if (this.mayEdit) await this.#flushAll(); // what another tab has cannot be sent
    clearTimeout(this.timer);
    const { id } = this.side;
    clearInterval(this.renewal);
    this.side = this.wanted = null;
    if (this.held.by === null) await this.api.release(id).catch(() => {});
  }

  /** Fetch the files of a side that will probably be opened next; used only where it has not changed until then. */
  async lookAhead(id) {
    const side = await this.api.side(id);
    const urls = [...side.images.map(({ url }) => url), side.prediction, side.correction].filter(Boolean);
    const buffers = await Promise.all(urls.map((url) => this.api.file(url)));
    this.ahead = { version: side.version, files: new Map(urls.map((url, n) => [url, buffers[n]])) };
  }

  // Who has it

  async #hold(id) {
    try {
      await this.api.hold(id, this.rater);
      return { by: null };
    } catch (error) {
      if (error.status !== 409) throw error;
      const holder = error.facts.holder ?? error.facts;
      return { by: holder.rater || 'another tab', since: holder.since, words: error.message };
    }
  }

  get mayEdit() {
    return this.side !== null && this.held.by === null;
  }

  /** Keep the side, or get it where another tab let go of it. */
  async renew() {
    if (!this.side) return;
    const { side } = this;
    try {
      const before = this.held.by;
      const held = await this.#hold(side.id);
      if (this.wanted !== side.id && held.by === null) await this.api.release(side.id); // it was left meanwhile
      if (this.side !== side) return;
      this.held = held;
      if (before !== null && held.by === null) await this.onFreed();
      else if (before !== held.by) this.onState();
    } catch (error) {
      this.onTrouble(error);
    }
  }

  // Strokes

  /** Do one whole edit: `tool(edit)` changes voxels. Returns what the tool returns. */
  edit(facts, tool) {
    const edit = this.history.begin(facts);
    const said = tool(edit);
    if (this.history.commit(edit)) this.touched();
    return said;
  }

  undo() {
    return this.#moved(this.history.undo());
  }

  redo() {
    return this.#moved(this.history.redo());
  }

  #moved(facts) {
    if (facts) this.touched();
    return facts !== null;
  }

  /** A stroke is over: send the draft soon. */
  touched() {
    this.draft = 'waiting';
    this.findings = null;
    this.#sendSoon();
    this.onState();
  }

  #sendSoon(after = DRAFT_AFTER_MS) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush().catch(() => {}), after);
  }

  /** Send the draft now where one waits. Throws where it cannot be sent: it goes on waiting. */
  async flush() {
    if (!this.quiet) await this.#flushAll(); // else what waits is sent after the answer
  }

  /** Send until nothing waits: a stroke may end while the one before is on its way. */
  async #flushAll() {
    const { side } = this;
    while (side && this.side === side && (this.sending || this.draft === 'waiting')) {
      clearTimeout(this.timer);
      this.sending ??= this.#send().finally(() => {
        this.sending = null;
      });
      await this.sending;
    }
  }

  async #send() {
    const { side, told } = this;
    const volume = this.volume.copy();
    this.draft = 'sending';
    try {
      const isNews = volume.data.some((value, index) => value !== told.data[index]);
      if (isNews) await this.api.putDraft(side.id, this.version, await gzip(toBytes(volume)));
      else await this.api.deleteDraft(side.id);
      if (this.side !== side) return;
      this.sentVolume = volume;
      if (this.draft === 'sending') this.draft = isNews ? 'saved' : 'none';
      if (this.failed) this.onMended();
      this.failed = false;
    } catch (error) {
      if (this.side === side) {
        this.draft = 'waiting';
        this.failed = true;
        if (error.status === 409) this.#lost(error);
        else this.#sendSoon(5 * DRAFT_AFTER_MS);
      }
      this.onTrouble(error);
      throw error;
    } finally {
      this.onState();
    }
  }

  #lost(error) {
    const holder = error.facts.holder;
    if (holder) this.held = { by: holder.rater || 'another tab', since: holder.since, words: error.message };
  }

  /** Throw unsaved strokes away; the side has to be loaded again then. */
  async discard() {
    clearTimeout(this.timer);
    await this.sending?.catch(() => {});
    this.draft = 'none';
    try {
      await this.api.deleteDraft(this.side.id);
    } catch (error) {
      this.touched(); // they are still here
      throw error;
    }
  }

  // Saving and deciding

  get hasDraft() {
    return this.draft !== 'none';
  }

  /** Turn the draft into the correction and run the guards; `findings` is then what they say. */
  async save() {
    return this.#quietly(async (side) => {
      const sent = this.sentVolume; // not this.volume: somebody may be in the middle of a stroke
      const facts = { version: this.version, seconds: this.#takeSeconds(), changed: this.#changedByName(sent) };
      const answer = await this.#sendSeconds(side, facts.seconds, () => this.api.save(side.id, facts));
      if (this.side !== side) return answer;
      Object.assign(this, { told: sent, version: answer.version, restored: false });
      if (this.draft !== 'waiting') Object.assign(this, { draft: 'none', findings: answer.findings }); // else there are new strokes already
      this.onState();
      return answer;
    });
  }

  /** Do something with the side and all its strokes sent; what is painted meanwhile is sent after it. */
  async #quietly(what) {
    const { side } = this;
    this.quiet += 1;
    try {
      await this.#flushAll();
      this.#mustStillBe(side);
      return await what(side);
    } finally {
      this.quiet -= 1;
      if (this.side && this.draft === 'waiting') this.#sendSoon();
    }
  }

  #mustStillBe(side) {
    if (this.side !== side) throw new Error('Another side was opened meanwhile: this one is left as it was.');
  }

  #changedByName(volume) {
    const changed = {};
    for (const [value, voxels] of Object.entries(changedVoxels(this.told, volume)))
      changed[this.palette.name(Number(value))] = voxels;
    return changed;
  }

  /** Say what becomes of the side; unsaved strokes are saved first. Returns the server's answer. */
  async decide(status, comment) {
    return this.#quietly(async (side) => {
      while (this.side === side && this.hasDraft) await this.save();
      this.#mustStillBe(side);
      const facts = {
        version: this.version,
        status,
        rater: this.rater,
        comment,
        accept: [...this.accepted],
        seconds: this.#takeSeconds(),
      };
      const answer = await this.#sendSeconds(side, facts.seconds, () => this.api.decide(side.id, facts));
      if (this.side !== side) return answer;
      this.version = answer.version ?? this.version;
      this.findings = answer.findings ?? this.findings;
      Object.assign(side, { status: answer.status, comment, rater: answer.recorded ? this.rater : side.rater });
      this.onState();
      return answer;
    });
  }

  async #sendSeconds(side, seconds, send) {
    try {
      return await send();
    } catch (error) {
      if (this.side === side) this.seconds += seconds; // not told yet
      throw error;
    }
  }

  /** The findings that keep the side from being approved as it is. */
  get blocking() {
    return (this.findings ?? []).filter(({ guard, blocks }) => blocks !== false && !this.accepted.has(guard));
  }

  toggleAccepted(guard) {
    if (!this.accepted.delete(guard)) this.accepted.add(guard);
    this.onState();
  }

  // Time

  #takeSeconds() {
    const { seconds } = this;
    this.seconds = 0;
    return seconds;
  }

  /** Somebody is there: a key, the pointer. */
  awake() {
    this.lastSeen = Date.now();
  }

  #clock() {
    this.awake();
    this.seconds = 0;
    setInterval(() => {
      if (!document.hidden && Date.now() - this.lastSeen < IDLE_MS) this.seconds += 1;
    }, 1000);
  }
}

/** The label map at an address, on the grid of its side; null without an address. */
async function labelsAt(url, grid, file) {
  if (!url) return null;
  const read = readLabels(await gunzip(await file(url)));
  if (!sameGrid(read, grid)) {
    throw new Error('A label map does not lie on the grid of its image, and cannot be shown.');
  }
  return new LabelVolume(grid, read.data);
}
