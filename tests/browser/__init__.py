"""The page in a real browser; not part of ``make test``: run with ``make browser-test``."""
