"""From six camera images, ego speed and a navigation command to a driving plan."""
