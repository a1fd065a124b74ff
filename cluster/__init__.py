"""The `filmweaver` command: here or on a cluster; the demo; profiles and manifests."""
