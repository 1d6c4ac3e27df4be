"""What can go wrong with a stack.

StackFault
├── FolderInUse     another stack runs in the folder
├── PortTaken       a fixed port is somebody else's
└── PartFault       a part did not start, or ended for good
"""

from __future__ import annotations


class StackFault(Exception):
    """The stack cannot run; the message is one line and says what to do."""


class FolderInUse(StackFault):
    """Another stack runs in the folder."""


class PortTaken(StackFault):
    """Somebody else listens on a port the stack was told to use."""


class PartFault(StackFault):
    """A part did not start, or ended for good; the message holds the last thing it said."""
