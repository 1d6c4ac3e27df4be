"""Hostile input: generated calls of the whole API, broken bytes over gRPC, and what reads text from outside."""
