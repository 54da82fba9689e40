"""From tables to Altair charts."""
