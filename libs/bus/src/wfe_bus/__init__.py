"""The NATS bus: subjects, messages, connection."""
