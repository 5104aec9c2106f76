"""Steering: how each process is, limits changed while everything runs, and what operators did."""
