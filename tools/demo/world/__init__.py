"""A made-up street world, rendered to six cameras and written as nuScenes tables. It is not nuScenes."""
