"""One session of one person, from scans to finished outputs.

In: scans, and the options of the participant level.
Out: crops, label maps, transforms and their sidecars in OUTPUT_DIR; the sidecars are the memory of what is done.
Open first: job.py.
"""
