"""The outputs of a model -> what callers are answered: classes, segments of speech."""
