"""Listening for HTTP: what the public listener and the API share, from the socket to the error answer."""
