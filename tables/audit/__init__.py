"""Log, tables and Redis compared: the digest of each side, the fold of the log, what differs, what would mend it."""
