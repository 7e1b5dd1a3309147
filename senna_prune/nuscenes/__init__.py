"""nuScenes tables -> keyframes -> labels and questions -> planning set. Only `tables` imports the devkit."""
