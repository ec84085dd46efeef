"""Agreement among nodes: the floor between ``shards`` and ``fl``; docs/architecture.md says what it holds."""
