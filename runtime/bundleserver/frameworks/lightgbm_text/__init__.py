"""LightGBM's text files, taken apart and checked without the library.

Its parser believes what a file says: a forged or damaged number makes it, or a later prediction,
read outside of its arrays. So the framework and the gate of pickles read each text here first, and
the library gets what passed.
"""
