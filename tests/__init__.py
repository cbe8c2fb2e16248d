"""The tests. What they share: `servers` (real servers), `system` (the whole of Stocktide as a process)."""
