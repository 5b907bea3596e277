"""A user's corrections of a model: the layer that holds them, the inputs they must leave unchanged, and their memory."""
