"""CorObl space: its grids, registration to the CIT168 template, and resampling there and back.

In: scans of one person.
Out: crops, transforms, label maps on the grid of the scan, and measures of quality.
Open first: preprocessing.py.
"""
