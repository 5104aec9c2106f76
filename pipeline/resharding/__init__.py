"""Moves slots from shard to shard while events flow."""
