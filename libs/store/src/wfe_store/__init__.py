"""The Postgres run store: schema, migrations, statements."""
