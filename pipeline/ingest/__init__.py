"""Flow one: a delivery in, rows committed, an outcome out."""
