"""What the forecasters of all libraries share."""
