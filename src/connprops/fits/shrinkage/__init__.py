"""Hierarchical estimates: each pathway's parameters from its own values and from its level's."""
