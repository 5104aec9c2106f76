"""Reads that are answered by primary or replica, whichever answers first, and never stale."""
