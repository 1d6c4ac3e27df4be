"""What each kind of step does. Importing this package fills the tables of `wfe_engine.rules`."""

from wfe_engine.kinds import approval, branches, children, rounds, simple, trying, waiting

__all__ = ["approval", "branches", "children", "rounds", "simple", "trying", "waiting"]
