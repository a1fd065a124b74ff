"""What is seen in keyframes beyond CLIP: faces, text, explicit content."""
