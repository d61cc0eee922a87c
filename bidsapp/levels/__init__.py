"""The three levels of the BIDS App, each of which reads like a method section.

In: requests of the command line; data sets, models and label maps on disk.
Out: the files of OUTPUT_DIR and MODEL_DIR; the levels meet through these files only.
Open first: group.py, participant.py or review.py.
"""
