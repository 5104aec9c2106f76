"""One file for each provider library: twilio, aiosmtplib."""
