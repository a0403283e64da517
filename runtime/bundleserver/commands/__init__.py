"""The commands of ``bundleserver``, one module for each group."""
