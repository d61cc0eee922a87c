"""What leaves the house: a trained model with its licence, its card and its citation, searched for private things.

In: a MODEL_DIR, or an exported model.
Out: zip files that plain nnU-Net installs, and archives for HippUnfold.
Open first: share.py.
"""
