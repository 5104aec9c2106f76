"""A discrete-event simulation of hundreds of shards: what one machine cannot show, and a formula does not."""
