"""Metric depth for camera images: LiDAR gathered over time, projected with occlusion, completed along the image."""
