// Unlimited undo and redo. Each step keeps only what it changed, as runs of neighbouring voxels.

/** What one step changed: runs of voxels that follow each other in storage, had one value and got one value. */
export class Diff {
  /**
   * @param {Map<number, number>} before index -> value before the step, of every voxel that it touched
   * @param {Uint16Array} data the values after it
   */
  constructor(before, data) {
    const indices = Float64Array.from(before.keys()).sort();
    const runs = [];
    let [start, length, was, is] = [-1, 0, 0, 0];
    for (const index of indices) {
      const [old, now] = [before.get(index), data[index]];
      if (old === now) continue;
      if (length && index === start + length && old === was && now === is) {
        length++;
        continue;
      }
      if (length) runs.push(start, length, was, is);
      [start, length, was, is] = [index, 1, old, now];
    }
    if (length) runs.push(start, length, was, is);
    this.runs = Uint32Array.from(runs);
  }

  get isEmpty() {
    return this.runs.length === 0;
  }

  /** How many voxels it changed. */
  get voxels() {
    let sum = 0;
    for (let at = 1; at < this.runs.length; at += 4) sum += this.runs[at];
    return sum;
  }

  /** Write the values after (`forwards`) or before the step; calls `changed(start, length)` for every run. */
  write(data, forwards, changed) {
    for (let at = 0; at < this.runs.length; at += 4) {
      const [start, length] = [this.runs[at], this.runs[at + 1]];
      data.fill(this.runs[at + (forwards ? 3 : 2)], start, start + length);
      changed(start, length);
    }
  }
}

/** A step that is under way: writes into the volume and remembers what was there. */
export class Edit {
  constructor(volume, facts, changed) {
    this.volume = volume;
    this.facts = facts;
    this.changed = changed;
    this.before = new Map();
  }

  /** Give a voxel a value; returns whether that changed it. */
  set(index, value) {
    const old = this.volume.data[index];
    if (old === value) return false;
    if (!this.before.has(index)) this.before.set(index, old);
    this.volume.data[index] = value;
    this.changed(index, 1);
    return true;
  }
}

/** The steps of one volume. */
export class History {
  /**
   * @param {LabelVolume} volume
   * @param {(start: number, length: number) => void} [changed] told of every run of voxels that changes
   */
  constructor(volume, changed = () => {}) {
    this.volume = volume;
    this.changed = changed;
    this.done = [];
    this.undone = [];
  }

  /**
   * Begin a step. `facts` are kept with it: {what, axis, slice, value}, the axis and slice of an edit in one plane.
   */
  begin(facts = {}) {
    return new Edit(this.volume, facts, this.changed);
  }

  /** End a step; one that changed nothing is forgotten. Returns whether it changed anything. */
  commit(edit) {
    if (edit.volume !== this.volume) return false; // of a side that was left
    const diff = new Diff(edit.before, this.volume.data);
    if (diff.isEmpty) return false;
    this.done.push({ diff, facts: edit.facts });
    this.undone = [];
    return true;
  }

  /** Take a step back that was begun and not committed. */
  abandon(edit) {
    for (const [index, value] of edit.before) {
      this.volume.data[index] = value;
      this.changed(index, 1);
    }
  }

  /** Take the last step back; returns its facts, null: there is none. */
  undo() {
    return this.#move(this.done, this.undone, false);
  }

  /** Do again what was taken back last; returns its facts, null: there is none. */
  redo() {
    return this.#move(this.undone, this.done, true);
  }

  #move(from, to, forwards) {
    const step = from.pop();
    if (!step) return null;
    step.diff.write(this.volume.data, forwards, this.changed);
    to.push(step);
    return step.facts;
  }

  /** The slices along an axis in which that value was edited by hand, in ascending order; undone steps do not count. */
  editedSlices(axis, value) {
    const slices = this.done.filter(
      ({ facts }) => facts.axis === axis && facts.value === value && facts.slice !== undefined,
    );
    return [...new Set(slices.map(({ facts }) => facts.slice))].sort((one, other) => one - other);
  }
}
