"""Cutting and re-cutting data, experts and model segments: the ground floor; see docs/architecture.md."""
