"""Pictures as PNG: outlines of label maps in three planes, heads in the template's space, curves and dots.

In: arrays with their spacing or affine.
Out: pictures with the words that stand for them.
Open first: drawing.py.
"""
