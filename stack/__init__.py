"""The local stack: RabbitMQ, PostgreSQL pairs, an SMTP sink and a Twilio emulator on loopback."""
