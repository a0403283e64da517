"""What the frameworks of boosters have in common: their tables, and how their files are checked."""
