"""The ledger on a real server: scenarios for each rule, a model to compare it with, concurrent clients."""
