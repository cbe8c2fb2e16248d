"""The ledger, on a real server: scenarios as sentences, a model that it is compared with, crowds."""
