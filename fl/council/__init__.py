"""The council: replicas that agree on every round's aggregate, simulated in the server process until deployed."""

SIMULATED = "council simulated in the server process"
"""What every output says of it."""

NETWORK = "earth"
"""Where its replicas are placed: evenly over the cities of this built-in model. Simulated delays come from there."""
