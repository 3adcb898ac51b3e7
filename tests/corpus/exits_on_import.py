"""A backend's module that ends the process with 0 when it is imported."""

import os

os._exit(0)
