"""What every service shares: contracts, envelopes, errors, statistics, slices, telemetry.

Imports no service and no broker.
"""
