"""A soak of the real server: ``python -m tests.soak --minutes 10``, or ``make soak MINUTES=10``.

Client processes ask in closed loops and check every value against the version that the answer
names, while two directors publish, break, roll back and take away versions, a registry stops and
starts, a worker process is killed, and hostile clients come and go. ``checking`` decides what is
lost and what is wrong; it is the one module with unit tests of its own.
"""
