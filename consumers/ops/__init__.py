"""The ops port: /metrics, /livez and /readyz, from a thread of its own."""
