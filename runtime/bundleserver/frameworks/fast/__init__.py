"""What faster implementations of models share: an engine for trees, comparing, and timing.

An implementation is used only if it answered random rows **bit for bit** as the library did, and
was faster. So labels cannot flip at a boundary, and what is not equal is not used.
"""
