// What lies over the picture: the pointer becomes strokes, lassos, crosshair and contrast; cursor and marks are drawn.

const CLICK_PIXELS = 4;
const GAP_PIXELS = 10; // the crosshair's: what it points at can be seen

/**
 * Events (set from outside): onStroke({phase: 'begin' | 'move' | 'end', voxel, tile}), onPolygon({points, tile}),
 * onPoint(voxel, tile), onPlane(axis), onLook().
 */
export class Surface {
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.tool = 'navigate';
    this.radiusMm = 1;
    this.color = '#ffffff';
    this.erasing = false;
    this.marks = [];
    this.asleep = false; // nothing is drawn, pointed at or moved then
    this.drag = null;
    this.hover = null;
    this.corners = null;
    this.onStroke = this.onPolygon = this.onPoint = this.onPlane = () => {};
    viewer.onDrawn = () => this.draw();
    canvas.addEventListener('pointerdown', (event) => this.#down(event));
    canvas.addEventListener('pointermove', (event) => this.#move(event));
    canvas.addEventListener('pointerup', (event) => this.#up(event));
    canvas.addEventListener('pointercancel', () => this.giveUp());
    canvas.addEventListener('pointerleave', () => this.#setHover(null));
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('dblclick', () => this.closePolygon());
  }

  setTool(tool) {
    if (this.tool !== tool) this.giveUp();
    this.tool = tool;
    this.draw();
  }

  /** Fill the polygon that was begun; false: there is none. */
  closePolygon() {
    const { corners } = this;
    this.corners = null;
    if (!corners) return false;
    if (corners.points.length > 2) this.onPolygon(corners);
    this.draw();
    return true;
  }

  /** End a stroke where it is and forget a polygon that was begun; false: there was neither. */
  giveUp() {
    const [{ drag }, { corners }] = [this, this];
    this.drag = this.corners = null;
    if (drag?.what === 'stroke') this.onStroke({ phase: 'end' });
    this.draw();
    return Boolean(drag || corners);
  }

  #down(event) {
    if (this.asleep || !this.viewer.isLoaded || this.drag) return;
    const [x, y] = this.#place(event);
    const tile = this.viewer.tileAt(x, y);
    if (!tile) return;
    event.preventDefault();
    document.activeElement?.blur();
    this.canvas.setPointerCapture(event.pointerId);
    const what = this.#whatFor(event, tile);
    this.drag = { what, tile, x, y, from: [x, y], moved: false };
    if (tile.rendering) return;
    this.onPlane(tile.axis);
    const voxel = this.viewer.voxelAt(x, y, tile);
    if (what === 'point') this.onPoint(voxel, tile);
    if (what === 'stroke') this.onStroke({ phase: 'begin', voxel, tile });
    if (what === 'lasso') this.#addCorner(voxel, tile);
  }

  #whatFor(event, tile) {
    if (tile.rendering) return 'turn';
    if (event.button === 2) return 'contrast';
    if (event.button === 1 || event.shiftKey) return 'pan';
    if (this.tool === 'navigate' || event.ctrlKey || event.metaKey || event.altKey) return 'point';
    return this.tool === 'lasso' ? 'lasso' : 'stroke';
  }

  #addCorner(voxel, tile) {
    if (this.corners && this.corners.tile.axis !== tile.axis) this.corners = null;
    this.corners ??= { points: [], tile };
    this.corners.points.push(voxel);
    this.draw();
  }

  #move(event) {
    const [x, y] = this.#place(event);
    this.#setHover([x, y]);
    const { drag } = this;
    if (!drag) return;
    const [dx, dy] = [x - drag.x, y - drag.y];
    Object.assign(drag, { x, y });
    if (Math.hypot(x - drag.from[0], y - drag.from[1]) > CLICK_PIXELS) drag.moved = true;
    if (drag.what === 'turn') this.viewer.turn(dx, dy);
    else if (drag.what === 'pan') this.viewer.pan(drag.tile, dx, dy);
    else if (drag.what === 'contrast') this.viewer.changeContrast(-dy / 400, dx / 200);
    else this.#draw(this.viewer.voxelAt(x, y, drag.tile));
  }

  #draw(voxel) {
    const { drag } = this;
    if (drag.what === 'point') this.onPoint(voxel, drag.tile);
    if (drag.what === 'stroke') this.onStroke({ phase: 'move', voxel, tile: drag.tile });
    if (drag.what === 'lasso' && drag.moved) this.#addCorner(voxel, drag.tile);
  }

  #up(event) {
    const { drag } = this;
    if (!drag) return;
    this.drag = null;
    this.canvas.releasePointerCapture(event.pointerId);
    if (drag.what === 'stroke') this.onStroke({ phase: 'end' });
    if (drag.what === 'lasso' && drag.moved) this.closePolygon();
  }

  #wheel(event) {
    event.preventDefault();
    if (this.asleep || !this.viewer.isLoaded) return;
    const tile = this.viewer.tileAt(...this.#place(event));
    const steps = event.deltaY < 0 ? 1 : -1;
    if (event.ctrlKey || event.metaKey || tile?.rendering) this.viewer.zoom(steps > 0 ? 1.15 : 1 / 1.15);
    else if (tile) {
      this.onPlane(tile.axis);
      this.viewer.move(tile.axis, steps);
    }
  }

  #setHover(place) {
    this.hover = place;
    this.draw();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // Drawing

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.viewer.isLoaded || this.viewer.view === 'rendering') return;
    this.#drawPlane(pen);
    this.#drawCrosshair(pen);
    this.#drawDirections(pen);
    this.#drawMarks(pen);
    this.#drawCorners(pen);
    this.#drawCursor(pen);
  }

  #drawPlane(pen) {
    const tile = this.viewer.tileOf(this.viewer.plane);
    if (!tile || this.viewer.view === 'one') return;
    pen.strokeStyle = '#5aa9e6';
    pen.lineWidth = 2;
    const [left, top, width, height] = this.viewer.boxOf(tile);
    pen.strokeRect(left + 1, top + 1, width - 2, height - 2);
  }

  #drawCrosshair(pen) {
    pen.strokeStyle = '#f0e050b0';
    pen.lineWidth = 1;
    const voxel = this.viewer.crosshair;
    for (const axis of [0, 1, 2]) {
      const tile = this.viewer.tileOf(axis);
      if (!tile) continue;
      const [left, top, width, height] = this.viewer.boxOf(tile);
      const [x, y] = this.viewer.placeOf(voxel, tile).map((n) => Math.round(n) + 0.5);
      pen.beginPath();
      if (x > left && x < left + width) {
        line(pen, [x, top], [x, Math.max(top, y - GAP_PIXELS)]);
        line(pen, [x, Math.min(top + height, y + GAP_PIXELS)], [x, top + height]);
      }
      if (y > top && y < top + height) {
        line(pen, [left, y], [Math.max(left, x - GAP_PIXELS), y]);
        line(pen, [Math.min(left + width, x + GAP_PIXELS), y], [left + width, y]);
      }
      pen.stroke();
    }
  }

  #drawDirections(pen) {
    pen.font = '600 14px system-ui, sans-serif';
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    for (const axis of [0, 1, 2]) {
      const tile = this.viewer.tileOf(axis);
      if (!tile) continue;
      const [left, top, width, height] = this.viewer.boxOf(tile);
      const letters = this.viewer.directionsOf(tile);
      write(pen, letters.left, left + 11, top + height / 2);
      write(pen, letters.right, left + width - 11, top + height / 2);
      write(pen, letters.top, left + width / 2, top + 12);
      write(pen, letters.bottom, left + width / 2, top + height - 12);
    }
  }

  #drawMarks(pen) {
    for (const { voxel, chosen } of this.marks) {
      for (const axis of [0, 1, 2]) {
        const tile = this.viewer.tileOf(axis);
        if (!tile) continue;
        const { axis: gridAxis, slice } = this.viewer.gridSlice(axis);
        if (Math.abs(voxel[gridAxis] - slice) > 2) continue;
        const [x, y] = this.viewer.placeOf(voxel, tile);
        pen.strokeStyle = chosen ? '#ff5c5c' : '#ffb35c';
        pen.lineWidth = chosen ? 3 : 2;
        circle(pen, x, y, 12, 12);
        pen.stroke();
      }
    }
  }

  #drawCorners(pen) {
    if (!this.corners) return;
    const tile = this.viewer.tileOf(this.corners.tile.axis);
    if (!tile) return;
    pen.strokeStyle = this.color;
    pen.lineWidth = 1.5;
    pen.setLineDash(this.erasing ? [4, 4] : []);
    pen.beginPath();
    for (const voxel of this.corners.points) pen.lineTo(...this.viewer.placeOf(voxel, tile));
    if (this.hover) pen.lineTo(...this.hover);
    pen.closePath();
    pen.stroke();
    pen.setLineDash([]);
  }

  #drawCursor(pen) {
    const tile = this.hover && this.viewer.tileAt(...this.hover);
    const brush = this.tool === 'disc' || this.tool === 'ball';
    this.canvas.style.cursor = tile?.rendering ? 'grab' : brush && tile ? 'none' : 'crosshair';
    if (!brush || !tile || tile.rendering) return;
    const [x, y] = this.hover;
    const [sx, sy] = this.viewer.scaleOf(tile);
    const [rx, ry] = [Math.max(1.5, this.radiusMm * sx), Math.max(1.5, this.radiusMm * sy)];
    for (const [color, width] of [
      ['#000000', 3],
      [this.color, 1.5],
    ]) {
      pen.strokeStyle = color;
      pen.lineWidth = width;
      pen.setLineDash(this.erasing ? [4, 3] : []);
      circle(pen, x, y, rx, ry);
      pen.stroke();
      if (this.tool === 'ball') {
        circle(pen, x, y, rx, ry * 0.35);
        pen.stroke();
      }
    }
    pen.setLineDash([]);
  }
}

function line(pen, from, to) {
  pen.moveTo(...from);
  pen.lineTo(...to);
}

function write(pen, letter, x, y) {
  pen.strokeStyle = '#000000';
  pen.lineWidth = 3;
  pen.strokeText(letter, x, y);
  pen.fillStyle = '#ffffff';
  pen.fillText(letter, x, y);
}

function circle(pen, x, y, rx, ry) {
  pen.beginPath();
  pen.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
}
