"""How many machines an amount of orders needs, from measured costs: `postorder plan`."""
