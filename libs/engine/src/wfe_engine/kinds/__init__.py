"""What each kind of step does. Importing this package fills the tables of `wfe_engine.rules`."""

from wfe_engine.kinds import agent, approval, branches, children, rounds, simple, trying, waiting

__all__ = ["agent", "approval", "branches", "children", "rounds", "simple", "trying", "waiting"]
