"""Link bench: real sender, broker and receiver over an emulated link; edgesem's rate control beside baselines."""
