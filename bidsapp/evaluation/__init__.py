"""Metrics on arrays, and tables of scores."""
