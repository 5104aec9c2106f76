"""A mail server that keeps what it gets and misbehaves on request."""
