"""What is remembered: the ledger in Redis, its outcomes and records, the Faust tables."""
