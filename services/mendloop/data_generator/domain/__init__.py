"""How candidates become a batch: ledger, funnel, collection, selection, audit. Pure."""
