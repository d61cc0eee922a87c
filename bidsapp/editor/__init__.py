"""Correct and approve label maps in a browser: a local server over OUTPUT_DIR, and the page that it serves.

In: an OUTPUT_DIR with crops.
Out: corrections, rows of the review table and approvals, all written through the functions of `bidsapp.review`.
Open first: app.py, which lists the addresses. deciding.py alone writes to ``labels/``.
"""
