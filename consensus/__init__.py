"""Agreement among nodes: the floor between ``shards`` and ``fl``; see docs/architecture.md for what it holds today."""
