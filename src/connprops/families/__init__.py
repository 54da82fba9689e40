"""Families of distributions: what each is, and how it is fitted to many pathways at once."""
