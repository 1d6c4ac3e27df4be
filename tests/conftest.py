from wfe_stack.testing import database_template, database_url, nats_url, postgres_server

__all__ = ["database_template", "database_url", "nats_url", "postgres_server"]
