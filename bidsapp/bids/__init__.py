"""What we know of BIDS: finding scans, names, sidecars, data set descriptions and validation.

In: the input data set, which is only read.
Out: scans per person and session, and the JSON files of OUTPUT_DIR.
Open first: scans.py.
"""
