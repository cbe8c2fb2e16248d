"""Reads of the published tables, for the time in which the ledger cannot be read."""

from __future__ import annotations
