"""The consistent-hash ring: pure functions and values, no I/O."""
