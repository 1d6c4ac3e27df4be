"""The wfe command."""
