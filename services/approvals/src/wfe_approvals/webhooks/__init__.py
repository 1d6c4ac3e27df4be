"""Telling other systems: what is told, how it is signed, who wants it, how it is sent."""
