"""What reacts: the agents for orders, movements, journal and stock, the relay, the expiry timer."""
