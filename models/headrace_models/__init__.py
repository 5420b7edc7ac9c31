"""What is served: model specs, the repository on disk, preprocessing, and the zoo. Imports nothing of headrace."""
