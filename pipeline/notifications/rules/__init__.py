"""What may be sent, and when: the rules a message passes right before a provider is called."""
