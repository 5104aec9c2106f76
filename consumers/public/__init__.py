"""What is reached from outside: callbacks of providers, texts from handsets, bounces, unsubscribing."""
