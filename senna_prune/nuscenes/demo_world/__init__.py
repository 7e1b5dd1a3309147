"""A made-up street world, rendered to six cameras and written in the nuScenes schema. It is not nuScenes."""
