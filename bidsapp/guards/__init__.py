"""Checks that keep a flipped, shifted or half-finished label map out.

In: label maps with their voxel sizes, and what they are compared with.
Out: findings, each with the name of its guard and its reason.
Open first: label_guards.py.
"""
