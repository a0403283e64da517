"""KServe's own types and ``BundleModel``; the only package that imports kserve."""
