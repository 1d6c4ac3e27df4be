"""Gates, people and keys: API, decisions, expiry."""
