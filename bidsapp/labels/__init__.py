"""Label tables, guards on what a person returns, the approval ledger."""
