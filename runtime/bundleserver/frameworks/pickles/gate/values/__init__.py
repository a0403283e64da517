"""Plain values that pickles are made of: arrays, tables, containers, random states."""
