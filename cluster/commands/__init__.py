"""The `filmweaver` commands, one file each."""
