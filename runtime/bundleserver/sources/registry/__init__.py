"""Versions that lie in an MLflow Model Registry: followed, fetched into a cache, kept in outages.

MLflow itself is imported by ``client`` and ``download`` alone, when a URI needs it.
"""
