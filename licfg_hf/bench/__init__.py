"""The cost of techniques: time, memory and arithmetic of training steps, and the trainer's own overhead."""
