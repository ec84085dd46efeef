"""The council: replicas that agree on every round's aggregate, simulated in the server process until deployed."""

SIMULATED = "council simulated in the server process"
"""What every output says of it."""
