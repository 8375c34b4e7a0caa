"""The link bench: real sender, receiver and broker over an emulated link, edgesem's control beside simpler ones."""
