"""Deterministic simulation: the real scheduler and executor code on a simulated store, bus and clock."""
