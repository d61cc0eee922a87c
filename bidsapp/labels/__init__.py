"""What the values of a label map mean: tables of names, their colours, and maps between protocols.

In: tables of BIDS, ITK-SNAP and nnU-Net.
Out: label tables, and label maps in the values of another table.
Open first: tables.py.
"""
