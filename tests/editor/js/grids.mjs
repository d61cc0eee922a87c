// Small grids in every axis order, as scanners and other tools write them.
export const GRIDS = {
  RAS: {
    shape: [6, 7, 8],
    affine: [
      [1, 0, 0, -3],
      [0, 1, 0, -4],
      [0, 0, 1, -5],
      [0, 0, 0, 1],
    ],
  },
  LAS: {
    shape: [6, 7, 8],
    affine: [
      [-0.3, 0, 0, 3],
      [0, 0.3, 0, -4],
      [0, 0, 0.3, -5],
      [0, 0, 0, 1],
    ],
  },
  LPS: {
    shape: [6, 7, 8],
    affine: [
      [-1, 0, 0, 3],
      [0, -1, 0, 4],
      [0, 0, 1, -5],
      [0, 0, 0, 1],
    ],
  },
  PIR: {
    shape: [7, 8, 6],
    affine: [
      [0, 0, 1, -3],
      [-1, 0, 0, 4],
      [0, -1, 0, 5],
      [0, 0, 0, 1],
    ],
  },
  anisotropic: {
    shape: [6, 7, 8],
    affine: [
      [0.5, 0, 0, 0],
      [0, 2, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ],
  },
  // turned about the first axis by the angle of a 3-4-5 triangle, 1 x 1 x 1.2 mm
  oblique: {
    shape: [6, 7, 8],
    affine: [
      [1, 0, 0, 10],
      [0, 0.8, -0.72, 20],
      [0, 0.6, 0.96, 30],
      [0, 0, 0, 1],
    ],
  },
};
