"""Model files, read without executing anything that they say, and written so that plain nnU-Net installs them.

In: folders, zips and tars of nnU-Net v2 and v1, whoever made them.
Out: networks with their weights and plans; exported models.
Open first: loading.py.
"""
