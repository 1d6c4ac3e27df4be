"""The template language: load, validate, compile, evaluate expressions."""
