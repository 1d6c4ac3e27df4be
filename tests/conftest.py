import os

# The database is started under another account when tests run as root, which takes a real fork. gRPC's handlers for
# that are of no use before an exec, and end the child when another thread is inside gRPC. Read at gRPC's import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from wfe_stack.testing import database_template, database_url, nats_url, postgres_server

__all__ = ["database_template", "database_url", "nats_url", "postgres_server"]
