"""Load: the demo, the publisher of real order histories, and (later) scenarios and reports."""
