"""Senna under the tests that every model of transformers passes."""
