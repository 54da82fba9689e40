"""Files written whole or not at all: tables, stages of work, shards."""
