"""From six camera pictures, ego speed and a navigation command to a driving plan."""
