"""Runs steps: claims over NATS, no database."""
