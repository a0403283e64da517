"""Fitted models of every kind that may be served, on small data."""
