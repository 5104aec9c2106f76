"""The console: a page in the API's process that shows an installation live, and steers it over the API."""
