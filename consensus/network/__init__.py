"""Replicas as processes: TLS sockets, a durable log, and the loop that drives a state machine with them."""
