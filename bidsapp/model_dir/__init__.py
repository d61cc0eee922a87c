"""What a MODEL_DIR remembers: segments of training, everybody's place in the split, and where the model comes from.

In: state.json, split.tsv, lineage and nnU-Net's own files of a MODEL_DIR, which may come from somebody else.
Out: records, checked value by value.
Open first: state.py.
"""
