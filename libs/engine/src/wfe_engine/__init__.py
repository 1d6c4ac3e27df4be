"""The pure core: plans, state, events, decide and evolve."""
