"""What rules count: per replica, per session, per tenant."""
