"""Who asks and watches: the HTTP API, the feeds, the board."""
