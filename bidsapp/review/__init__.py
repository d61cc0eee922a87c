"""What people decide about label maps, and the ledger that remembers it.

In: review.tsv, corrected label maps, and the network's predictions.
Out: approvals in approvals.jsonl and in sidecars, or a refusal with its reasons.
Open first: decisions.py.
"""
