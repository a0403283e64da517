"""Which version answers a request that names none: splits, mirrors, canaries."""
