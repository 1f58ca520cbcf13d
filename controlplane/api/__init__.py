"""Decides how calls arrive: gRPC decoded, authorised, handed to the services, encoded."""
