"""Load on the real engine while a seeded killer breaks its parts; afterwards a checker looks for anything lost."""
