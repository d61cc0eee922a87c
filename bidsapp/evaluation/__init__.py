"""How good a label map is, and which of two models is better.

In: masks, and scores of test people.
Out: tables of scores, and comparisons that are paired by person.
Open first: metrics.py.
"""
