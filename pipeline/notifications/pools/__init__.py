"""How much is sent at once, how fast, and through whom: pools that push back instead of piling up."""
