"""Versions in an MLflow Model Registry: polled, fetched into a cache, available in outages.

Only ``client`` and ``download`` import MLflow itself, when a URI requires it.
"""
