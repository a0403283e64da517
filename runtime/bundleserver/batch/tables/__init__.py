"""Files of tables: Parquet, CSV, JSON lines and Arrow, read and written piece by piece."""
