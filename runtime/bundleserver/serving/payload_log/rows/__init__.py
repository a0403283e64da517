"""Logged requests as rows: their parts, and the columns that these are in."""
