"""Simulated people for the demo and for tests, made from real template anatomy."""
