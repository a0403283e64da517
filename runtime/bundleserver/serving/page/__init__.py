"""The page for browsers: what is served, how it does, and what it answers. It changes nothing."""
