// What the tools do when a key or the pointer asks for it: from the state of the page to edits on the desk.

import { copySlice, fillPolygon, grow, interpolateSlices, keepLargest, paint, shrink } from './tools.js';
import { PLANES } from './viewer.js';

export class Painting {
  /** `state` holds label, over, radiusMm, tool and erasing; `say(words, kind)` tells the person. */
  constructor({ desk, viewer, state, say }) {
    Object.assign(this, { desk, viewer, state, say });
    this.stroke = null;
  }

  get #value() {
    return this.state.erasing ? 0 : this.state.label;
  }

  /** What may be painted over; the eraser has nothing to do on the background. */
  get #over() {
    return this.state.erasing && this.state.over === 'background' ? 'all' : this.state.over;
  }

  /** One stroke of the brush, in phases; see surface.js. */
  onStroke({ phase, voxel, tile }) {
    if (phase === 'begin') this.#begin(tile);
    if (!this.stroke) return;
    if (phase === 'end') {
      const { edit } = this.stroke;
      this.stroke = null;
      if (this.desk.history.commit(edit)) this.desk.touched();
      return;
    }
    const { edit, axis, from } = this.stroke;
    paint(edit, {
      from: from ?? voxel,
      to: voxel,
      radiusMm: this.state.radiusMm,
      value: this.#value,
      over: this.#over,
      axis,
    });
    this.stroke.from = voxel;
  }

  #begin(tile) {
    if (!this.desk.mayEdit) return;
    const plane = this.viewer.gridSlice(tile.axis);
    const isDisc = this.state.tool === 'disc';
    const edit = this.desk.history.begin(isDisc ? this.#facts(plane) : { value: this.state.label });
    this.stroke = { edit, axis: isDisc ? plane.axis : null, from: null };
  }

  #facts({ axis, slice }) {
    return { axis, slice, value: this.state.label };
  }

  onPolygon({ points, tile }) {
    if (!this.desk.mayEdit) return;
    const plane = this.viewer.gridSlice(tile.axis);
    this.desk.edit(this.#facts(plane), (edit) =>
      fillPolygon(edit, { points, axis: plane.axis, slice: plane.slice, value: this.#value, over: this.#over }),
    );
  }

  interpolate() {
    const { axis } = this.viewer.gridSlice(this.viewer.plane);
    const { label } = this.state;
    const slices = this.desk.history.editedSlices(axis, label);
    const plane = PLANES[this.viewer.plane];
    if (slices.length < 2) {
      this.say(
        `Edit ${this.desk.palette.name(label)} in two ${plane} slices first: what lies between is filled then.`,
        'bad',
      );
      return;
    }
    this.desk.edit({}, (edit) => interpolateSlices(edit, { axis, slices, value: label, over: this.state.over }));
    this.say(`Filled ${this.desk.palette.name(label)} between ${slices.length} edited ${plane} slices.`);
  }

  /** Copy the label from the slice before (1) or after (-1). */
  copy(direction) {
    const plane = this.viewer.gridSlice(this.viewer.plane);
    const from = plane.slice + direction * plane.before;
    this.desk.edit(this.#facts(plane), (edit) =>
      copySlice(edit, { axis: plane.axis, slice: plane.slice, from, value: this.state.label, over: this.state.over }),
    );
  }

  grow() {
    this.desk.edit({}, (edit) => grow(edit, { value: this.state.label, over: this.state.over }));
  }

  shrink() {
    this.desk.edit({}, (edit) => shrink(edit, { value: this.state.label }));
  }

  /** Of the label that is painted with, or of all labels together. */
  keepLargest(value) {
    const gone = this.desk.edit({}, (edit) => keepLargest(edit, { value }));
    this.say(gone ? `${gone} smaller ${gone === 1 ? 'piece' : 'pieces'} erased.` : 'There is one piece only.');
  }
}
