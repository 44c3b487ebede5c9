"""The commands about a deployment, and the checks of its machines before they cost."""
