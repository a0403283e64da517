"""Models that were saved with each set of libraries, and what keeps the sets in the package."""
