"""Where data comes from: what a provider declares and does, and the built-in ones."""
