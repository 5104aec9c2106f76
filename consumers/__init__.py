"""The programs: AMQP consumers, the composition root and the command line."""
