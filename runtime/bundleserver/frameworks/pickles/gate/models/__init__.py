"""What the models of each library may be made of."""
