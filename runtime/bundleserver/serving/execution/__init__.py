"""From a decoded request to its outputs: route, acquire, validate, run, count."""
