"""Pages that people look at: one HTML file each, which opens offline.

In: the finished files of OUTPUT_DIR and MODEL_DIR, and the records of a run.
Out: index.html, the page of each person, review.html, pairs.html and report.html.
Open first: participant_report.py.
"""
