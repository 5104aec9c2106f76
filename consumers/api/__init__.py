"""The HTTP API for people and programs that operate an installation: look, steer, and the console's data."""
