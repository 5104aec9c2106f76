"""Flow two: an owed message in, a provider call, a receipt out."""
