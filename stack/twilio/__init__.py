"""A Twilio of our own: the Messages API, status callbacks and opt-outs."""
