"""Runs and templates: API, decider, timers, sweeper."""
