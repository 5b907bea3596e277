"""A user's corrections of a model: the layer that holds them, the inputs they leave unchanged, and their memory."""
