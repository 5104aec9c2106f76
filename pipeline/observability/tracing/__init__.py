"""Traces: contexts as W3C writes them, spans, and their way to an OTLP receiver."""
