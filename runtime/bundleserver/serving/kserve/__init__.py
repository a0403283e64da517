"""KServe's own types and models; the only package that imports kserve."""
