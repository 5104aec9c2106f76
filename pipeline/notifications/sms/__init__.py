"""What an SMS needs before a provider gets it: a number that may be texted, a text that fits; and errors."""
