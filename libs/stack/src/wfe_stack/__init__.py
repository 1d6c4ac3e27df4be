"""The whole engine as processes of one machine."""
