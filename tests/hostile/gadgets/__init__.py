"""Files that run code, or change their process, when they are opened without a gate.

``any`` in the tests shows that each of them works; under ``listed`` and ``deny`` none may. What
they run only makes files in the directory of their test, or marks a class.
"""
