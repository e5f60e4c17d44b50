"""Who did what, when and on whose authority: the ledger, the effects it guards, decisions and policies."""
