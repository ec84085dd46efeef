"""A deterministic discrete-event network, and what it needs: latencies, costs, faults, checks."""
