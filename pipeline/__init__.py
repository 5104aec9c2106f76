"""Postorder: order events in from RabbitMQ, sharded PostgreSQL, SMS and e-mail out."""
