"""E-mail: addresses, templates, MIME, signatures, and the documents that travel with a mail."""
