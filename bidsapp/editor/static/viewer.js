// The picture: NiiVue shows images and a bitmap that is drawn from our label volume, which alone is the truth.
//
// Places on the screen are CSS pixels from the upper left corner of the canvas. Planes are named by the axis of RAS
// order that runs through them: 0 sagittal, 1 coronal, 2 axial.

import { RasOrder, spacingMm, voxelToMm } from './geometry.js';
import { drawAll, drawRun } from './palette.js';
import { gunzip } from './nifti.js';

export const PLANES = ['sagittal', 'coronal', 'axial'];
export const VIEWS = ['four', 'three', 'one', 'rendering'];

const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, MULTIPLANAR_TYPE } = globalThis.niivue;
const SLICE_TYPES = [SLICE_TYPE.SAGITTAL, SLICE_TYPE.CORONAL, SLICE_TYPE.AXIAL];
const OPTIONS = {
  interactive: false,
  dragAndDropEnabled: false,
  backColor: [0, 0, 0, 1],
  crosshairWidth: 0, // surface.js draws it: one pixel wide, and open in the middle
  multiplanarLayout: MULTIPLANAR_TYPE.GRID,
  multiplanarShowRender: SHOW_RENDER.ALWAYS,
  multiplanarPadPixels: 6,
  sagittalNoseLeft: false,
  isNearestInterpolation: false,
  isOrientationTextVisible: false, // surface.js writes them, from the affine
  loadingText: '',
  logLevel: 'error',
};
/** The coronal plane, in which most of the drawing is done, large; the others beside it. */
const THREE = [
  { sliceType: SLICE_TYPE.CORONAL, position: [0, 0, 0.555, 1] },
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0.56, 0, 0.44, 0.35] },
  { sliceType: SLICE_TYPE.AXIAL, position: [0.56, 0.36, 0.44, 0.64] },
];
const THREE_TALL = [
  { sliceType: SLICE_TYPE.CORONAL, position: [0, 0, 1, 0.46] },
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0, 0.465, 1, 0.23] },
  { sliceType: SLICE_TYPE.AXIAL, position: [0, 0.7, 1, 0.3] },
];
const TAIL = 0.005; // share of voxels that are darker, and brighter, than the window at first
const DRAWING_TEXTURE = 7; // where NiiVue's shaders look for the drawing

export class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.nv = new Niivue(OPTIONS);
    this.view = 'four';
    this.plane = 1;
    this.opacity = 0.5;
    this.outline = false;
    this.hidden = false;
    this.dirty = null;
    this.newContrast = false;
    this.frame = 0;
    this.onDrawn = () => {};
  }

  async start() {
    const draw = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = () => this.canvas.clientWidth && draw(); // NiiVue would draw on a hidden canvas, too
    await this.nv.attachToCanvas(this.canvas, true);
    new ResizeObserver(() => this.setView(this.view)).observe(this.canvas.parentElement);
  }

  get isLoaded() {
    return this.nv.volumes.length > 0;
  }

  /** Show the images of a side (gzipped NIfTI as buffers) without labels; `grid` null: the first one's. Throws where they do not fit it. */
  async load(images, grid = null) {
    const volumes = [];
    for (const { modality, buffer } of images) {
      const name = `${modality}.nii`;
      volumes.push(await NVImage.new(await gunzip(buffer), name, 'gray', 1, null, NaN, NaN, true, TAIL));
    }
    grid ??= { shape: Array.from(volumes[0].hdr.dims.slice(1, 4)), affine: volumes[0].hdr.affine };
    const stranger = volumes.find(({ hdr }) => grid.shape.some((n, axis) => hdr.dims[axis + 1] !== n));
    if (stranger)
      throw new Error(
        `an image has ${stranger.hdr.dims.slice(1, 4).join(' x ')} voxels, the grid of its side ${grid.shape.join(' x ')}`,
      );
    this.images = volumes;
    this.showImage(0);
    this.grid = grid;
    this.order = new RasOrder(grid.shape, volumes[0].permRAS);
    const spacing = spacingMm(grid.affine);
    this.spacing = this.order.axes.map((axis) => spacing[axis]);
    this.contrast = volumes.map(({ cal_min, cal_max }) => [cal_min, cal_max]);
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.createEmptyDrawing();
    this.#applyOpacity();
  }

  /** Show a label volume; what changes in it later is told with `changed`. */
  show(volume, palette) {
    this.volume = volume;
    this.palette = palette;
    this.nv.drawLut = { lut: palette.colours(), labels: ['', ...palette.labels.map(({ name }) => name)] };
    drawAll(volume, this.nv.drawBitmap, this.order, palette);
    this.nv.refreshColormaps();
    this.dirty = [0, this.order.shape[2] - 1];
    this.redraw();
  }

  /** Voxels of the volume that is shown changed: draw them with the next frame. */
  changed(start, length) {
    const [low, high] = drawRun(this.volume, this.nv.drawBitmap, this.order, this.palette, start, length);
    this.dirty = this.dirty ? [Math.min(low, this.dirty[0]), Math.max(high, this.dirty[1])] : [low, high];
    this.redraw();
  }

  /** Draw the scene with the next frame of the browser. */
  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.isLoaded) return;
      if (this.dirty) this.#upload(...this.dirty);
      this.dirty = null;
      if (this.newContrast) this.nv.updateGLVolume();
      else this.nv.drawScene();
      this.newContrast = false;
      this.onDrawn();
    });
  }

  #upload(low, high) {
    const { gl } = this.nv;
    const [nx, ny] = this.order.shape;
    gl.activeTexture(gl.TEXTURE0 + DRAWING_TEXTURE);
    gl.bindTexture(gl.TEXTURE_3D, this.nv.drawTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const slab = this.nv.drawBitmap.subarray(nx * ny * low, nx * ny * (high + 1));
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, low, nx, ny, high - low + 1, gl.RED, gl.UNSIGNED_BYTE, slab);
  }

  // Where things are

  /** The tile at a place: {n, axis} of a plane, {rendering: true}, or null. */
  tileAt(x, y) {
    const [px, py] = this.#pixels(x, y);
    if (this.view === 'rendering') return { rendering: true };
    const n = this.nv.tileIndex(px, py);
    if (n < 0) return null;
    const type = this.nv.screenSlices[n].axCorSag;
    return type > SLICE_TYPE.SAGITTAL ? { rendering: true } : { n, axis: SLICE_TYPES.indexOf(type) };
  }

  /** The tile of a plane, null where it is not shown. */
  tileOf(axis) {
    const n = this.nv.screenSlices.findIndex(({ axCorSag }) => axCorSag === SLICE_TYPES[axis]);
    return n < 0 ? null : { n, axis };
  }

  /** The voxel (fractions) at a place of a plane; outside of the image too, as far as the tile goes. null: no tile. */
  voxelAt(x, y, tile) {
    const map = this.#mapOf(tile);
    const [px, py] = this.#pixels(x, y);
    const ras = map.origin.map((start, row) => start + map.dx[row] * px + map.dy[row] * py);
    ras[tile.axis] = this.rasSlice(tile.axis);
    return this.order.toGrid(ras);
  }

  /** Where a voxel (fractions) is drawn in a plane, whatever its slice. */
  placeOf(voxel, tile) {
    const { origin, dx, dy } = this.#mapOf(tile);
    const ras = this.order.fromGrid(voxel);
    const [u, v] = [0, 1, 2].filter((row) => row !== tile.axis);
    const determinant = dx[u] * dy[v] - dy[u] * dx[v];
    const [a, b] = [ras[u] - origin[u], ras[v] - origin[v]];
    const ratio = this.nv.uiData.dpr;
    return [(a * dy[v] - b * dy[u]) / determinant / ratio, (b * dx[u] - a * dx[v]) / determinant / ratio];
  }

  /** CSS pixels per mm of a plane, from left to right and from top to bottom. */
  scaleOf(tile) {
    const { dx, dy } = this.#mapOf(tile);
    const size = (d) =>
      1 / Math.hypot(...d.map((n, row) => (row === tile.axis ? 0 : n * this.spacing[row]))) / this.nv.uiData.dpr;
    return [size(dx), size(dy)];
  }

  /** Upper left corner, width and height of a tile in CSS pixels. */
  boxOf(tile) {
    return this.nv.screenSlices[tile.n].leftTopWidthHeight.map((n) => n / this.nv.uiData.dpr);
  }

  /** NiiVue's map from pixels to RAS voxels, which is straight within a tile: origin, and steps per pixel. */
  #mapOf(tile) {
    const [left, top, width, height] = this.nv.screenSlices[tile.n].leftTopWidthHeight;
    const at = (p, q) => {
      const frac = this.nv.screenXY2TextureFrac(left + p * width, top + q * height, tile.n, false);
      return [0, 1, 2].map((row) => frac[row] * this.order.shape[row] - 0.5);
    };
    const [corner, right, down] = [at(0.25, 0.25), at(0.75, 0.25), at(0.25, 0.75)];
    const dx = right.map((n, row) => (n - corner[row]) / (0.5 * width));
    const dy = down.map((n, row) => (n - corner[row]) / (0.5 * height));
    const origin = corner.map((n, row) => n - dx[row] * (left + 0.25 * width) - dy[row] * (top + 0.25 * height));
    return { origin, dx, dy };
  }

  /** Which ways a plane looks: the letters at its left, right, top and bottom, from the affine of the grid. */
  directionsOf(tile) {
    const { dx, dy } = this.#mapOf(tile);
    const zero = voxelToMm(this.grid.affine, this.order.toGrid([0, 0, 0]));
    const letters = (step) => {
      const mm = voxelToMm(this.grid.affine, this.order.toGrid(step)).map((n, axis) => n - zero[axis]);
      const axis = mm.reduce((best, n, at) => (Math.abs(n) > Math.abs(mm[best]) ? at : best), 0);
      const pair = ['LR', 'PA', 'IS'][axis];
      return mm[axis] > 0 ? [pair[0], pair[1]] : [pair[1], pair[0]];
    };
    const [left, right] = letters(dx);
    const [top, bottom] = letters(dy);
    return { left, right, top, bottom };
  }

  #pixels(x, y) {
    return [x * this.nv.uiData.dpr, y * this.nv.uiData.dpr];
  }

  // Crosshair and slices

  /** The voxel under the crosshair, whole numbers. */
  get crosshair() {
    return this.order.toGrid([0, 1, 2].map((axis) => this.rasSlice(axis)));
  }

  set crosshair(voxel) {
    const ras = this.order.fromGrid(voxel);
    this.nv.scene.crosshairPos = ras.map((n, row) => {
      const slice = Math.min(this.order.shape[row] - 1, Math.max(0, Math.round(n)));
      return (slice + 0.5) / this.order.shape[row];
    });
    this.redraw();
  }

  /** The slice of a plane that is shown, counted in RAS order. */
  rasSlice(axis) {
    const n = Math.floor(this.nv.scene.crosshairPos[axis] * this.order.shape[axis]);
    return Math.min(this.order.shape[axis] - 1, Math.max(0, n));
  }

  /** Go `steps` slices to the right, front or top. */
  move(axis, steps) {
    const ras = [0, 1, 2].map((row) => this.rasSlice(row) + (row === axis ? steps : 0));
    this.crosshair = this.order.toGrid(ras);
  }

  /** The voxel axis of the grid that runs through a plane, and the slice that is shown along it. */
  gridSlice(axis) {
    const gridAxis = this.order.axes[axis];
    return { axis: gridAxis, slice: this.crosshair[gridAxis], before: this.order.reversed[axis] ? 1 : -1 };
  }

  // How it looks

  setView(view) {
    this.view = view;
    const isTall = this.canvas.clientHeight > this.canvas.clientWidth;
    this.nv.customLayout = view === 'three' ? (isTall ? THREE_TALL : THREE) : [];
    const types = { one: SLICE_TYPES[this.plane], rendering: SLICE_TYPE.RENDER };
    this.nv.opts.sliceType = types[view] ?? SLICE_TYPE.MULTIPLANAR;
    this.redraw();
  }

  setPlane(axis) {
    this.plane = axis;
    this.setView(this.view);
  }

  /** Make everything larger, keeping the crosshair where it is. */
  zoom(factor) {
    const { scene } = this.nv;
    const old = scene.pan2Dxyzmm;
    const zoom = Math.min(20, Math.max(0.5, old[3] * factor));
    const mm = this.nv.frac2mm(scene.crosshairPos);
    scene.pan2Dxyzmm = [...[0, 1, 2].map((row) => old[row] + (old[3] - zoom) * mm[row]), zoom];
    this.redraw();
  }

  /** Move the picture of a plane by CSS pixels. */
  pan(tile, x, y) {
    const { dx, dy } = this.#mapOf(tile);
    const pan = [...this.nv.scene.pan2Dxyzmm];
    const scale = pan[3] * this.nv.uiData.dpr;
    for (const row of [0, 1, 2]) {
      if (row !== tile.axis) pan[row] += (dx[row] * x + dy[row] * y) * scale * this.spacing[row];
    }
    this.nv.scene.pan2Dxyzmm = pan;
    this.redraw();
  }

  turn(x, y) {
    const { scene } = this.nv;
    scene.renderAzimuth = (scene.renderAzimuth - x / 2 + 360) % 360;
    scene.renderElevation = Math.min(90, Math.max(-90, scene.renderElevation + y / 2));
    this.redraw();
  }

  fit() {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.contrast.forEach(([low, high], n) => Object.assign(this.images[n], { cal_min: low, cal_max: high }));
    this.newContrast = true;
    this.redraw();
  }

  /** Brighter and stronger, by shares of the present window. */
  changeContrast(level, width) {
    const [image] = this.nv.volumes;
    const window = image.cal_max - image.cal_min;
    const middle = (image.cal_max + image.cal_min) / 2 - level * window;
    const half = Math.max(1e-6, (window / 2) * (1 + width));
    Object.assign(image, { cal_min: middle - half, cal_max: middle + half });
    this.newContrast = true;
    this.redraw();
  }

  /** Show T1w or T2w; returns which one is shown now. As an overlay, NiiVue would draw it above the labels. */
  showImage(n) {
    const shown = n % this.images.length;
    this.nv.volumes = [this.images[shown]];
    this.nv.setVolume(this.images[shown], 0);
    this.redraw();
    return shown;
  }

  setLook({ opacity = this.opacity, outline = this.outline, hidden = this.hidden }) {
    Object.assign(this, { opacity, outline, hidden });
    this.#applyOpacity();
    this.redraw();
  }

  #applyOpacity() {
    this.nv.drawOpacity = this.hidden ? 0 : this.outline ? 0.01 : this.opacity;
    this.nv.drawRimOpacity = this.outline && !this.hidden ? Math.min(1, this.opacity + 0.4) : -1;
  }
}
