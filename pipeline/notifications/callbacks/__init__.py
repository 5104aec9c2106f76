"""What the world outside tells us of messages: whether it is genuine, and what it means. No HTTP in here."""
