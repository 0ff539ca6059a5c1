"""What a critic is trained on: losses, penalties, normalizers, consistency, functional gradients."""
