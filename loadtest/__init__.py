"""Who pushes: replay of real orders and flash sales. Knows only the contract, never the inside."""
