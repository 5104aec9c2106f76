"""What the stand-ins for the world outside have in common."""
