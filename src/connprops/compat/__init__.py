"""What connectome-manipulator's ``conn_props`` reads and writes, from and to our tables."""
