"""Training pairs: an image and its label map, whose they are, and what is wrong with them.

In: folders of pairs as people have them, and approved label maps.
Out: checked pairs in the order that the network sees, pairs.tsv, and findings.
Open first: pairs.py.
"""
