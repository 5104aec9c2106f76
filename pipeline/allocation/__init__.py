"""How many processes, what prefetch, what size of batches: decisions, and nothing else. No I/O, no clock."""
