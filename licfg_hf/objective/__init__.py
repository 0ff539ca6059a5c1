"""The training objectives of a critic: losses, penalties, normalizers, consistency, functional gradients."""
