"""Images in memory and on disk: NIfTI files of anybody, their headers, their grids, and the order of their axes.

In: NIfTI files, which are input of which nothing is believed.
Out: arrays with voxel-to-RAS matrices in millimetres.
Open first: volumes.py.
"""
