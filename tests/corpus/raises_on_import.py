"""A backend's module that cannot be imported."""

raise ImportError("libframework.so: cannot open shared object file")
