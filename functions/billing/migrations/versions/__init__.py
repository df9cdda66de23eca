"""One module a version; none is changed once it is released."""
