"""DataFrame → DataFrame: columns become the feature vector."""
