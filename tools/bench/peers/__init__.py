"""Restate and DBOS under the bench's workloads, in the same sitting as this engine."""
