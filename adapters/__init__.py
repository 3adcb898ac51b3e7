"""How a framework is asked: the backend interface, one file per framework, the worker."""
